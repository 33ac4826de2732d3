-- Per day and age of the customer since the first purchase: entries (first purchase days), then activity on later days.
WITH first_days AS (
    SELECT customer_id, MIN(day) AS first_day FROM customer_days WHERE orders > 0 AND day <= $as_of GROUP BY customer_id
),
aged AS (
    SELECT customer_days.day AS day, DATE_DIFF('day', first_days.first_day, customer_days.day) AS age,
           customer_days.orders AS orders, customer_days.events AS events,
           CAST(CASE WHEN $in_margin THEN COALESCE(customer_days.margin, 0) ELSE customer_days.amount END
                AS DECIMAL(18, 4)) AS amount
    FROM customer_days JOIN first_days ON first_days.customer_id = customer_days.customer_id
    WHERE customer_days.day >= first_days.first_day AND customer_days.day <= $as_of
),
banded AS (
    SELECT day, orders, events, amount,
           CASE WHEN age < 1 THEN 0 WHEN age < 8 THEN 1 WHEN age < 15 THEN 2 WHEN age < 29 THEN 3 WHEN age < 57 THEN 4
                WHEN age < 92 THEN 5 WHEN age < 183 THEN 6 WHEN age < 366 THEN 7 ELSE 8 END AS band
    FROM aged
)
SELECT day AS day, band AS band, COUNT(*) AS customers, CAST(SUM(orders) AS DOUBLE) AS orders,
       CAST(SUM(events) AS DOUBLE) AS events, CAST(SUM(amount) AS DOUBLE) AS spend
FROM banded GROUP BY day, band ORDER BY day, band
