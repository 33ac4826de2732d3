-- The facts as they were known on a day: orders that a refund had undone by then do not count, and neither they nor their
-- refunds are spend. The sum of refunds keeps them.
WITH known AS (
    SELECT customer_id, day, undone_on, orders, amount, margin, refund_margin FROM undone_orders
    WHERE undone_on <= $as_of
),
changes AS (
    SELECT customer_id, day, orders, -CAST(amount AS DECIMAL(18, 4)) AS amount,
           -CAST(margin AS DECIMAL(18, 4)) AS margin FROM known
    UNION ALL SELECT customer_id, undone_on AS day, 0 AS orders, CAST(amount AS DECIMAL(18, 4)) AS amount,
                     -CAST(refund_margin AS DECIMAL(18, 4)) AS margin FROM known
),
net AS (
    SELECT customer_id, day, SUM(orders) AS orders, SUM(amount) AS amount, SUM(margin) AS margin
    FROM changes GROUP BY customer_id, day
)
SELECT customer_days.* EXCLUDE (orders, amount, margin),
       CAST(GREATEST(customer_days.orders - COALESCE(net.orders, 0), 0) AS BIGINT) AS orders,
       CAST(CAST(customer_days.amount AS DECIMAL(18, 4)) + COALESCE(net.amount, 0) AS DOUBLE) AS amount,
       CAST(CAST(customer_days.margin AS DECIMAL(18, 4)) + COALESCE(net.margin, 0) AS DOUBLE) AS margin
FROM customer_days LEFT JOIN net ON net.customer_id = customer_days.customer_id AND net.day = customer_days.day
WHERE customer_days.day <= $as_of
ORDER BY customer_days.day, customer_days.customer_id
