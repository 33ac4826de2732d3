-- Customers by full weeks since their first purchase, and the days on which they bought again by week. A week counts for
-- those who have been customers throughout it; those whose first purchase is not after $since may be no newcomers.
WITH firsts AS (
    SELECT people.customer_id AS customer_id, people.part AS part, MIN(customer_days.day) AS first_day
    FROM customer_days JOIN people ON people.customer_id = customer_days.customer_id
    WHERE customer_days.orders > 0 AND customer_days.day <= $as_of
    GROUP BY people.customer_id, people.part
),
newcomers AS (
    SELECT customer_id, part, first_day, CAST(FLOOR(DATE_DIFF('day', first_day, $as_of) / 7.0) AS BIGINT) AS weeks
    FROM firsts WHERE first_day > $since
),
again AS (
    SELECT newcomers.part AS part, newcomers.weeks AS weeks,
           CAST(FLOOR((DATE_DIFF('day', newcomers.first_day, customer_days.day) - 1) / 7.0) AS BIGINT) + 1 AS week
    FROM customer_days JOIN newcomers ON newcomers.customer_id = customer_days.customer_id
    WHERE customer_days.orders > 0 AND customer_days.day > newcomers.first_day AND customer_days.day <= $as_of
)
SELECT part, week, SUM(customers) AS customers, SUM(purchases) AS purchases
FROM (
    SELECT part, LEAST(weeks, $longest) AS week, 1 AS customers, 0 AS purchases FROM newcomers
    UNION ALL SELECT part, week, 0 AS customers, 1 AS purchases FROM again WHERE week <= weeks AND week <= $longest
) AS counted
GROUP BY part, week
ORDER BY part, week
