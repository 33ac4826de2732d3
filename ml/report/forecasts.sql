-- Expected customers per micro-segment of today and stage at the longest horizon. Without movements, the plan has the
-- micro-segment of each customer. Probabilities are summed as decimals, so that the order of rows does not matter.
WITH horizon AS (SELECT MAX(horizon_days) AS days FROM journey_forecasts WHERE day = $day),
members AS (
    SELECT stages.customer_id AS customer_id, stages.stage AS stage,
           COALESCE(moved.to_micro_segment_id, planned.micro_segment_id) AS micro_segment_id
    FROM lifecycle_stages AS stages
    LEFT JOIN movements AS moved ON moved.customer_id = stages.customer_id AND moved.day = stages.day
    LEFT JOIN action_plan AS planned ON planned.customer_id = stages.customer_id AND planned.day = stages.day
    WHERE stages.day = $day
)
SELECT members.stage AS stage, members.micro_segment_id AS micro_segment_id, forecasts.stage AS next_stage,
       horizon.days AS horizon_days,
       CAST(SUM(CAST(forecasts.probability AS DECIMAL(18, 9))) AS DOUBLE) AS customers
FROM journey_forecasts AS forecasts
JOIN horizon ON horizon.days = forecasts.horizon_days
JOIN members ON members.customer_id = forecasts.customer_id
WHERE forecasts.day = $day
GROUP BY members.stage, members.micro_segment_id, forecasts.stage, horizon.days
ORDER BY stage, micro_segment_id, next_stage
