-- Silences: the days between a purchase day and the next, counted while they are observed, from $since to $as_of. A day
-- of silence u is observed if it lies in that span; a silence without an end is censored at $as_of. Per group of
-- customers and number of days: how many silences come into view at that length, leave it, and end there in a return.
WITH purchases AS (
    SELECT customer_days.customer_id AS customer_id, customer_days.day AS day,
           LEAD(customer_days.day) OVER (PARTITION BY customer_days.customer_id ORDER BY customer_days.day) AS next_day
    FROM customer_days JOIN people ON people.customer_id = customer_days.customer_id
    WHERE customer_days.orders > 0 AND customer_days.day <= $as_of
),
silences AS (
    SELECT customer_id,
           CASE WHEN day < $since THEN DATE_DIFF('day', day, $since) ELSE 0 END AS entered,
           LEAST(DATE_DIFF('day', day, COALESCE(next_day, $as_of)), $longest) AS lasted,
           CASE WHEN DATE_DIFF('day', day, next_day) <= $longest THEN 1 ELSE 0 END AS returned
    FROM purchases
    WHERE COALESCE(next_day, $as_of) > $since
),
observed AS (
    SELECT people.part AS part, silences.entered AS entered, silences.lasted AS lasted, silences.returned AS returned
    FROM silences JOIN people ON people.customer_id = silences.customer_id
    WHERE silences.entered < silences.lasted
)
SELECT part, days, SUM(entered) AS entered, SUM(lasted) AS lasted, SUM(returned) AS returned
FROM (
    SELECT part, entered AS days, 1 AS entered, 0 AS lasted, 0 AS returned FROM observed
    UNION ALL SELECT part, lasted AS days, 0 AS entered, 1 AS lasted, returned FROM observed
) AS ends
GROUP BY part, days
ORDER BY part, days
