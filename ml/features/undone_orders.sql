-- Orders that a refund undid: by customer, the order's day and the day on which that was known. A refund is an order
-- whose lines add up to less than nothing; it undoes the newest order of the same customer and amount that nothing has
-- undone yet, at most so many days after it. Orders and refunds of one amount are brackets: what a refund closes is the
-- last order that opened at its depth. What comes after a day never changes what was known on it.
WITH totals AS (
    SELECT customer_id, day, COALESCE(order_id, CAST(occurred_at AS VARCHAR)) AS order_key,
           MIN(occurred_at) AS occurred_at, SUM(CAST(amount AS DECIMAL(18, 4))) AS amount,
           SUM(COALESCE(CAST(margin AS DECIMAL(18, 4)), 0)) AS margin
    FROM transactions
    GROUP BY customer_id, day, COALESCE(order_id, CAST(occurred_at AS VARCHAR))
),
steps AS (
    SELECT customer_id, day, order_key, occurred_at, margin, ABS(amount) AS size,
           CASE WHEN amount > 0 THEN 1 ELSE -1 END AS step
    FROM totals WHERE amount <> 0
),
depths AS (
    SELECT customer_id, day, order_key, occurred_at, margin, size, step,
           SUM(step) OVER (PARTITION BY customer_id, size ORDER BY day, occurred_at, step DESC, order_key
                           ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS depth
    FROM steps
),
pairs AS (
    SELECT customer_id, day AS undone_on, size, step, margin AS refund_margin,
           LAG(margin) OVER (PARTITION BY customer_id, size, depth + CASE WHEN step < 0 THEN 1 ELSE 0 END
                             ORDER BY day, occurred_at, step DESC, order_key) AS margin,
           LAG(day) OVER (PARTITION BY customer_id, size, depth + CASE WHEN step < 0 THEN 1 ELSE 0 END
                          ORDER BY day, occurred_at, step DESC, order_key) AS day,
           LAG(step) OVER (PARTITION BY customer_id, size, depth + CASE WHEN step < 0 THEN 1 ELSE 0 END
                           ORDER BY day, occurred_at, step DESC, order_key) AS step_before
    FROM depths
)
SELECT customer_id, day, undone_on, COUNT(*) AS orders, CAST(SUM(size) AS DOUBLE) AS amount,
       CAST(SUM(margin) AS DOUBLE) AS margin, CAST(SUM(refund_margin) AS DOUBLE) AS refund_margin
FROM pairs
WHERE step < 0 AND step_before > 0 AND DATE_DIFF('day', day, undone_on) <= $undo_within_days
GROUP BY customer_id, day, undone_on
ORDER BY day, customer_id, undone_on
