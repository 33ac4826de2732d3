-- How many customers went from a micro-segment to a stage in $step days, per day of departure.
SELECT origin.day AS day, origin.micro_segment AS micro_segment, destination.stage AS to_stage,
       CAST(COUNT(*) AS BIGINT) AS customers
FROM states AS origin
JOIN states AS destination ON destination.customer_id = origin.customer_id
    AND DATE_DIFF('day', origin.day, destination.day) = $step
GROUP BY origin.day, origin.micro_segment, destination.stage
ORDER BY day, micro_segment, to_stage
