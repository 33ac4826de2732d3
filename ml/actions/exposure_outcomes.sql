-- Matured exposures and their controls, one row per customer, campaign and day. Nothing dated after $as_of is used.
-- `arms` maps each value of `action` to its arm; rows with an ambiguous arm are left out.
-- Randomised campaigns have their own controls. For the others, controls are customers who were known the day before
-- and had no exposure within the window before. The other exposures of each row are counted in both arms: the same
-- rule then decides, for treated and control alike, which rows are compared.
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
           ) AS delivery_rank
    FROM delivered
    WHERE (design = 'randomised' AND DATE_DIFF('day', exposed_on, $as_of) >= $window - 1)
       OR (action <> 'control' AND DATE_DIFF('day', exposed_on, $as_of) >= $window)
),
once AS (
    SELECT customer_id, exposed_on, campaign_id, action, design, propensity, propensities
    FROM delivered_ranks WHERE delivery_rank = 1
),
waves AS (
    SELECT DISTINCT campaign_id, exposed_on FROM once WHERE design = 'observational'
),
-- A campaign that went out within a few days is one sending: a customer who got it on any of its days is not a control.
sendings AS (
    SELECT campaign_id FROM touches GROUP BY campaign_id
    HAVING DATE_DIFF('day', MIN(exposed_on), MAX(exposed_on)) <= $sending
),
-- A random sample of customers, the same for all campaigns, may be controls.
pool_ranks AS (
    SELECT customer_id, known_since,
           ROW_NUMBER() OVER (ORDER BY MD5(CONCAT($seed, '|pool|', customer_id)), customer_id) AS seed_rank
    FROM known
),
-- A customer's one wave of a campaign is drawn before its other exposures are looked at: a draw among the waves without
-- any would favour those that are followed by later exposures.
wave_ranks AS (
    SELECT pool_ranks.customer_id AS customer_id, waves.exposed_on AS exposed_on, waves.campaign_id AS campaign_id,
           ROW_NUMBER() OVER (
               PARTITION BY pool_ranks.customer_id, waves.campaign_id
               ORDER BY MD5(CONCAT($seed, '|', pool_ranks.customer_id, '|', waves.campaign_id, '|',
                                   CAST(waves.exposed_on AS VARCHAR)))
           ) AS wave_rank
    FROM waves JOIN pool_ranks ON pool_ranks.known_since < waves.exposed_on
    WHERE pool_ranks.seed_rank <= $max_rows
),
controls AS (
    SELECT wave_ranks.customer_id AS customer_id, wave_ranks.exposed_on AS exposed_on,
           wave_ranks.campaign_id AS campaign_id
    FROM wave_ranks
    WHERE wave_ranks.wave_rank = 1
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
           -- Whether history covers the placebo window and the customer was known before it.
           CASE WHEN DATE_DIFF('day', $start, arms_of.exposed_on) > $window
                 AND DATE_DIFF('day', known.known_since, arms_of.exposed_on) > $window
                THEN TRUE ELSE FALSE END AS has_placebo,
           -- By customer, so that a sample has all exposures of a customer and the same customers in each arm.
           ROW_NUMBER() OVER (
               PARTITION BY arms_of.action, arms_of.design
               ORDER BY MD5(CONCAT($seed, '|', arms_of.customer_id)),
                        arms_of.customer_id, arms_of.campaign_id, arms_of.exposed_on
           ) AS seed_rank,
           COUNT(*) OVER (PARTITION BY arms_of.action, arms_of.design) AS arm_rows
    FROM arms_of JOIN known ON known.customer_id = arms_of.customer_id AND known.known_since < arms_of.exposed_on
    WHERE arms_of.exposed_on > $start
),
sampled AS (
    SELECT customer_id, exposed_on, campaign_id, action, design, propensity, propensities, has_placebo,
           CASE WHEN arm_rows > $max_rows THEN CAST($max_rows AS DOUBLE) / arm_rows ELSE 1.0 END AS sampled_share
    FROM eligible WHERE seed_rank <= $max_rows
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
