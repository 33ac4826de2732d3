-- What each pair's customer did in the window after the pair's day: days day + 1 … day + window. Spend is net revenue, or
-- the margin of the same lines.
SELECT pairs.customer_id AS customer_id,
       pairs.day AS day,
       CAST(COALESCE(SUM(CAST(CASE WHEN $in_margin THEN COALESCE(customer_days.margin, 0) ELSE customer_days.amount END
                              AS DECIMAL(18, 4))), 0) AS DOUBLE) AS spend,
       CAST(COALESCE(SUM(customer_days.orders), 0) AS BIGINT) AS orders
FROM pairs LEFT JOIN customer_days ON customer_days.customer_id = pairs.customer_id
    AND customer_days.day > pairs.day AND DATE_DIFF('day', pairs.day, customer_days.day) <= $window
GROUP BY pairs.customer_id, pairs.day
ORDER BY pairs.day, pairs.customer_id
