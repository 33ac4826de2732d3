-- Who gets which action in this cycle. Every customer of each day has exactly one row.
-- `offers` has an action that clears its cost for each micro-segment, or none and the reason.
-- The hash is compared as text: eight hex digits sort like the number they represent.
WITH hashed AS (
    SELECT micro_segments.customer_id AS customer_id, micro_segments.day AS day,
           micro_segments.micro_segment_id AS micro_segment_id, micro_segments.stage AS stage,
           CAST(FLOOR(DATE_DIFF('day', $start, micro_segments.day) / $cycle_days) AS BIGINT) AS cycle
    FROM micro_segments
),
drawn AS (
    SELECT customer_id, day, micro_segment_id, stage, cycle,
           SUBSTRING(MD5(CONCAT($salt, '|', CAST(cycle AS VARCHAR), '|', customer_id)), 1, 8) < $holdout_hex AS is_drawn,
           MD5(CONCAT($salt, '|order|', CAST(cycle AS VARCHAR), '|', customer_id)) AS turn
    FROM hashed
),
offered AS (
    SELECT drawn.customer_id AS customer_id, drawn.day AS day, drawn.micro_segment_id AS micro_segment_id,
           drawn.stage AS stage, drawn.cycle AS cycle, drawn.is_drawn AS is_drawn, drawn.turn AS turn,
           offers.action AS action, offers.cost AS cost, offers.value AS value, offers.ci_low AS ci_low,
           offers.capacity AS capacity, offers.priority AS priority, offers.reason_code AS reason_code,
           offers.reason_parameters AS reason_parameters, offers.action_parameters AS action_parameters,
           offers.action IS NOT NULL AND NOT drawn.is_drawn AS is_candidate
    FROM drawn JOIN offers ON offers.day = drawn.day AND offers.micro_segment_id = drawn.micro_segment_id
        AND offers.stage = drawn.stage
),
-- Highest value per cost first; within a micro-segment the order is random.
in_capacity AS (
    SELECT *,
           is_candidate AND (capacity IS NULL OR COUNT(CASE WHEN is_candidate THEN 1 END) OVER (
               PARTITION BY day, cycle, action ORDER BY priority, turn, customer_id
               ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
           ) <= capacity) AS has_capacity
    FROM offered
),
in_budget AS (
    SELECT *,
           has_capacity AND ($budget IS NULL OR SUM(CASE WHEN has_capacity THEN CAST(cost AS DECIMAL(18, 4)) ELSE 0 END) OVER (
               PARTITION BY day, cycle ORDER BY priority, turn, customer_id
               ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
           ) <= CAST($budget AS DECIMAL(18, 4))) AS is_served
    FROM in_capacity
),
shares AS (
    SELECT *,
           SUM(CASE WHEN is_served THEN 1 ELSE 0 END) OVER (PARTITION BY day, micro_segment_id, stage) AS served,
           SUM(CASE WHEN has_capacity THEN 1 ELSE 0 END) OVER (PARTITION BY day, micro_segment_id, stage) AS affordable,
           SUM(CASE WHEN is_candidate THEN 1 ELSE 0 END) OVER (PARTITION BY day, micro_segment_id, stage) AS candidates
    FROM in_budget
),
-- Where nobody of a micro-segment is served, nobody is held out.
-- (If the hash draws all of them, they are held out from what is offered.)
with_holdout AS (
    SELECT *, action IS NOT NULL AND (served > 0 OR candidates = 0) AS has_holdout FROM shares
)
SELECT customer_id, day, micro_segment_id,
       CASE WHEN is_drawn AND has_holdout THEN 'control' WHEN is_served THEN action ELSE 'none' END AS action,
       is_drawn AND has_holdout AS is_holdout,
       CASE WHEN NOT has_holdout THEN 1.0
            WHEN is_drawn THEN $holdout_share
            WHEN is_served THEN (1 - $holdout_share) * served / candidates
            ELSE (1 - $holdout_share) * (candidates - served) / candidates END AS propensity,
       CASE WHEN is_served THEN value ELSE 0.0 END AS expected_incremental_value,
       CASE WHEN is_served THEN ci_low ELSE 0.0 END AS ci_low,
       CASE WHEN is_served THEN cost ELSE 0.0 END AS cost,
       CASE WHEN is_drawn AND has_holdout THEN 'held_out'
            WHEN is_served OR action IS NULL THEN reason_code
            WHEN has_capacity OR is_drawn AND affordable > 0 THEN 'budget_spent'
            ELSE 'capacity_used' END AS reason_code,
       CASE WHEN is_drawn AND has_holdout THEN CONCAT('{"cycle": ', CAST(cycle AS VARCHAR), '}')
            WHEN is_served OR action IS NULL THEN reason_parameters
            ELSE action_parameters END AS reason_parameters
FROM with_holdout
ORDER BY day, customer_id
