-- The spells of each customer: a row per uninterrupted stay in a stage, in order. A spell ends when the next one starts,
-- the last one with the last day observed.
WITH steps AS (
    SELECT customer_id, day, stage,
           LAG(stage) OVER (PARTITION BY customer_id ORDER BY day) AS stage_before,
           MAX(day) OVER (PARTITION BY customer_id) AS last_day
    FROM stages
),
starts AS (
    SELECT customer_id, stage, last_day, day AS since,
           ROW_NUMBER() OVER (PARTITION BY customer_id ORDER BY day) AS position,
           LEAD(day) OVER (PARTITION BY customer_id ORDER BY day) AS next_since
    FROM steps
    WHERE stage_before IS DISTINCT FROM stage
)
SELECT customer_id,
       CAST(position AS BIGINT) AS position,
       stage,
       since,
       CAST(CASE WHEN next_since IS NULL THEN DATE_DIFF('day', since, last_day) + 1
                 ELSE DATE_DIFF('day', since, next_since) END AS BIGINT) AS dwell_days,
       next_since IS NULL AS is_current
FROM starts
ORDER BY customer_id, position
