-- The margin of each pair of customer and day, as of the end of that day, over the windows over which spend is summed.
-- A line without a margin adds nothing.
WITH firsts AS (
    SELECT customer_id, MIN(day) AS first_day FROM customer_days WHERE orders > 0 GROUP BY customer_id
),
history AS (
    SELECT pairs.customer_id AS customer_id, pairs.day AS day,
           DATE_DIFF('day', customer_days.day, pairs.day) AS age,
           CASE WHEN customer_days.day = firsts.first_day THEN 1 ELSE 0 END AS is_first,
           CAST(customer_days.amount AS DECIMAL(18, 4)) AS amount,
           COALESCE(CAST(customer_days.margin AS DECIMAL(18, 4)), 0) AS margin
    FROM pairs
    JOIN customer_days ON customer_days.customer_id = pairs.customer_id AND customer_days.day <= pairs.day
    LEFT JOIN firsts ON firsts.customer_id = pairs.customer_id
),
sums AS (
    SELECT customer_id, day,
           SUM(margin) AS margin,
           SUM(CASE WHEN is_first = 1 THEN margin END) AS first_day_margin,
           SUM(CASE WHEN age < 28 THEN margin ELSE 0 END) AS margin_28d,
           SUM(CASE WHEN age < 90 THEN margin ELSE 0 END) AS margin_90d,
           SUM(CASE WHEN age >= 28 AND age < 56 THEN margin ELSE 0 END) AS margin_prev_28d,
           SUM(CASE WHEN age < 90 THEN amount ELSE 0 END) AS spend_90d
    FROM history
    GROUP BY customer_id, day
)
SELECT customer_id, day,
       CAST(margin AS DOUBLE) AS margin,
       CAST(first_day_margin AS DOUBLE) AS first_day_margin,
       CAST(margin_28d AS DOUBLE) AS margin_28d,
       CAST(margin_90d AS DOUBLE) AS margin_90d,
       CAST(margin_prev_28d AS DOUBLE) AS margin_prev_28d,
       CASE WHEN spend_90d > 0 THEN CAST(margin_90d AS DOUBLE) / CAST(spend_90d AS DOUBLE) END AS margin_share_90d
FROM sums
ORDER BY day, customer_id
