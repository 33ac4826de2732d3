-- Matured exposures and those they can be compared with, one row per customer, campaign and day. Nothing dated after
-- $as_of is looked at. `arms` says what each value of `action` means; rows whose arm nobody can tell take no part.
-- Randomised campaigns bring their own controls. For the others, controls are customers who were known the day before
-- and whom no action had reached within the window before. Which other exposures each row has is counted, in both arms
-- alike: who is compared is decided by that count, and by the same rule for treated and control.
WITH known AS (
    SELECT customer_id, MIN(day) AS known_since FROM customer_days WHERE day <= $as_of GROUP BY customer_id
),
delivered AS (
    SELECT exposures.customer_id AS customer_id, exposures.day AS exposed_on, exposures.exposed_at AS exposed_at,
           exposures.propensity AS propensity, exposures.propensities AS propensities,
           COALESCE(exposures.campaign_id, CAST(exposures.day AS VARCHAR)) AS campaign_id,
           CASE WHEN COALESCE(exposures.is_holdout, FALSE) THEN 'control' ELSE arms.arm END AS action,
           CASE WHEN COALESCE(exposures.randomised, FALSE) THEN 'randomised' ELSE 'observational' END AS design
    FROM exposures LEFT JOIN arms ON arms.action = exposures.action
    WHERE exposures.day <= $as_of AND (arms.arm IS NOT NULL OR COALESCE(exposures.is_holdout, FALSE))
),
touches AS (
    SELECT DISTINCT customer_id, exposed_on, campaign_id, action FROM delivered WHERE action <> 'control'
),
delivered_ranks AS (
    SELECT customer_id, exposed_on, campaign_id, action, design, propensity, propensities,
           ROW_NUMBER() OVER (
               PARTITION BY customer_id, exposed_on, campaign_id
               ORDER BY CASE WHEN action = 'control' THEN 1 ELSE 0 END, exposed_at, action, propensity
           ) AS place
    FROM delivered
    WHERE (design = 'randomised' AND DATE_DIFF('day', exposed_on, $as_of) >= $window - 1)
       OR (action <> 'control' AND DATE_DIFF('day', exposed_on, $as_of) >= $window)
),
once AS (
    SELECT customer_id, exposed_on, campaign_id, action, design, propensity, propensities
    FROM delivered_ranks WHERE place = 1
),
waves AS (
    SELECT DISTINCT campaign_id, exposed_on FROM once WHERE design = 'observational'
),
-- A campaign that went out within a few days is one sending: whoever gets it on another of its days is no control of it.
sendings AS (
    SELECT campaign_id FROM touches GROUP BY campaign_id
    HAVING DATE_DIFF('day', MIN(exposed_on), MAX(exposed_on)) <= $sending
),
-- A bounded, random set of customers is considered as controls: the same ones for all campaigns.
pool_ranks AS (
    SELECT customer_id, known_since,
           ROW_NUMBER() OVER (ORDER BY MD5(CONCAT($seed, '|pool|', customer_id)), customer_id) AS place
    FROM known
),
-- Chance picks a customer's one wave of a campaign before anybody looks at whether the customer was left alone then: a
-- choice among quiet waves would prefer those that later exposures follow.
wave_ranks AS (
    SELECT pool_ranks.customer_id AS customer_id, waves.exposed_on AS exposed_on, waves.campaign_id AS campaign_id,
           ROW_NUMBER() OVER (
               PARTITION BY pool_ranks.customer_id, waves.campaign_id
               ORDER BY MD5(CONCAT($seed, '|', pool_ranks.customer_id, '|', waves.campaign_id, '|',
                                   CAST(waves.exposed_on AS VARCHAR)))
           ) AS place
    FROM waves JOIN pool_ranks ON pool_ranks.known_since < waves.exposed_on
    WHERE pool_ranks.place <= $max_rows
),
controls AS (
    SELECT wave_ranks.customer_id AS customer_id, wave_ranks.exposed_on AS exposed_on,
           wave_ranks.campaign_id AS campaign_id
    FROM wave_ranks
    WHERE wave_ranks.place = 1
      AND NOT EXISTS (
          SELECT 1 FROM touches
          WHERE touches.customer_id = wave_ranks.customer_id
            AND DATE_DIFF('day', touches.exposed_on, wave_ranks.exposed_on) BETWEEN 0 AND $window
      )
      AND NOT EXISTS (
          SELECT 1 FROM touches JOIN sendings ON sendings.campaign_id = touches.campaign_id
          WHERE touches.customer_id = wave_ranks.customer_id AND touches.campaign_id = wave_ranks.campaign_id
      )
),
arms_of AS (
    SELECT customer_id, exposed_on, campaign_id, action, design, propensity, propensities FROM once
    UNION ALL
    SELECT customer_id, exposed_on, campaign_id, 'control', 'observational', CAST(NULL AS DOUBLE), CAST(NULL AS VARCHAR)
    FROM controls
),
eligible AS (
    SELECT arms_of.customer_id AS customer_id, arms_of.exposed_on AS exposed_on, arms_of.campaign_id AS campaign_id,
           arms_of.action AS action, arms_of.design AS design, arms_of.propensity AS propensity,
           arms_of.propensities AS propensities,
           -- The day whose snapshot the placebo uses, if history reaches that far back and the customer was known.
           CASE WHEN DATE_DIFF('day', $start, arms_of.exposed_on) > $window
                 AND DATE_DIFF('day', known.known_since, arms_of.exposed_on) > $window
                THEN TRUE ELSE FALSE END AS has_placebo,
           -- By customer, so that a sample holds all exposures of a customer and the same customers in each arm.
           ROW_NUMBER() OVER (
               PARTITION BY arms_of.action, arms_of.design
               ORDER BY MD5(CONCAT($seed, '|', arms_of.customer_id)),
                        arms_of.customer_id, arms_of.campaign_id, arms_of.exposed_on
           ) AS place,
           COUNT(*) OVER (PARTITION BY arms_of.action, arms_of.design) AS arm_rows
    FROM arms_of JOIN known ON known.customer_id = arms_of.customer_id AND known.known_since < arms_of.exposed_on
    WHERE arms_of.exposed_on > $start
),
sampled AS (
    SELECT customer_id, exposed_on, campaign_id, action, design, propensity, propensities, has_placebo,
           CASE WHEN arm_rows > $max_rows THEN CAST($max_rows AS DOUBLE) / arm_rows ELSE 1.0 END AS sampled_share
    FROM eligible WHERE place <= $max_rows
),
others AS (
    SELECT sampled.customer_id AS customer_id, sampled.exposed_on AS exposed_on, sampled.campaign_id AS campaign_id,
           SUM(CASE WHEN touches.exposed_on < sampled.exposed_on THEN 1 ELSE 0 END) AS exposures_before,
           SUM(CASE WHEN touches.exposed_on >= sampled.exposed_on THEN 1 ELSE 0 END) AS exposures_after
    FROM sampled JOIN touches ON touches.customer_id = sampled.customer_id
        AND DATE_DIFF('day', touches.exposed_on, sampled.exposed_on) <= $window
        AND DATE_DIFF('day', sampled.exposed_on, touches.exposed_on)
            <= CASE WHEN sampled.design = 'randomised' THEN $window - 1 ELSE $window END
    WHERE NOT (touches.exposed_on = sampled.exposed_on AND touches.campaign_id = sampled.campaign_id
               AND touches.action = sampled.action)
    GROUP BY sampled.customer_id, sampled.exposed_on, sampled.campaign_id
)
SELECT sampled.customer_id AS customer_id, sampled.exposed_on AS exposed_on, sampled.campaign_id AS campaign_id,
       sampled.action AS action, sampled.design AS design, sampled.propensity AS propensity,
       sampled.propensities AS propensities, sampled.has_placebo AS has_placebo, sampled.sampled_share AS sampled_share,
       CAST(COALESCE(others.exposures_before, 0) AS BIGINT) AS exposures_before,
       CAST(COALESCE(others.exposures_after, 0) AS BIGINT) AS exposures_after
FROM sampled LEFT JOIN others ON others.customer_id = sampled.customer_id
    AND others.exposed_on = sampled.exposed_on AND others.campaign_id = sampled.campaign_id
ORDER BY sampled.exposed_on, sampled.campaign_id, sampled.customer_id
