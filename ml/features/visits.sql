-- Visits and goals of each pair of customer and day, as of the end of that day. A visit ends with 30 minutes of silence and
-- belongs to the day on which it began: the first events of a day that continue a visit of the evening before begin none.
WITH events_before AS (
    SELECT customer_id, day, visits, goals, first_event_at,
           LAG(last_event_at) OVER (PARTITION BY customer_id ORDER BY day) AS event_before
    FROM customer_days WHERE events > 0
),
facts AS (
    SELECT customer_id, day, COALESCE(goals, 0) AS goals,
           COALESCE(visits, 0)
               - CASE WHEN first_event_at < event_before + INTERVAL 30 MINUTE THEN 1 ELSE 0 END AS visits
    FROM events_before
),
history AS (
    SELECT pairs.customer_id AS customer_id, pairs.day AS day,
           DATE_DIFF('day', facts.day, pairs.day) AS age, facts.visits AS visits, facts.goals AS goals
    FROM pairs LEFT JOIN facts ON facts.customer_id = pairs.customer_id AND facts.day <= pairs.day
)
SELECT customer_id, day,
       CAST(SUM(CASE WHEN age < 28 THEN visits ELSE 0 END) AS BIGINT) AS visits_28d,
       CAST(SUM(CASE WHEN age < 90 THEN visits ELSE 0 END) AS BIGINT) AS visits_90d,
       CAST(MIN(CASE WHEN visits > 0 THEN age END) AS BIGINT) AS days_since_visit,
       CAST(SUM(CASE WHEN age < 28 THEN goals ELSE 0 END) AS BIGINT) AS goals_28d,
       CAST(SUM(CASE WHEN age < 90 THEN goals ELSE 0 END) AS BIGINT) AS goals_90d,
       CAST(MIN(CASE WHEN goals > 0 THEN age END) AS BIGINT) AS days_since_goal
FROM history
GROUP BY customer_id, day
ORDER BY day, customer_id
