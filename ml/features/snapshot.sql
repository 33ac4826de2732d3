-- The features of each pair of customer and day, as of the end of that day: what becomes of the sums of `windows`. Every
-- join looks back from the pair's day, so nothing that happened later can enter.
WITH recent_purchases AS (
    -- Purchase days whose gap can count for a pair, and the one before them.
    SELECT customer_id, day FROM purchases WHERE day > $first_day - 30
    UNION ALL
    SELECT customer_id, MAX(day) AS day FROM purchases WHERE day <= $first_day - 30 GROUP BY customer_id
),
gaps AS (
    -- A purchase's gap is the silence it ended: days since the customer's purchase day before it.
    SELECT customer_id, day, DATE_DIFF('day', LAG(day) OVER (PARTITION BY customer_id ORDER BY day), day) AS gap
    FROM recent_purchases
),
comebacks AS (
    SELECT pairs.customer_id AS customer_id, pairs.day AS day, MAX(gaps.gap) AS gap
    FROM pairs JOIN gaps ON gaps.customer_id = pairs.customer_id
        AND gaps.day <= pairs.day AND DATE_DIFF('day', gaps.day, pairs.day) < 30
    WHERE gaps.day > $first_day - 30
    GROUP BY pairs.customer_id, pairs.day
),
category_sums AS (
    SELECT category_pairs.customer_id AS customer_id, category_pairs.day AS day, category_days.category AS category,
           SUM(CAST(category_days.amount AS DECIMAL(18, 4))) AS amount
    FROM category_pairs JOIN category_days ON category_days.customer_id = category_pairs.customer_id
        AND category_days.day <= category_pairs.day
        AND DATE_DIFF('day', category_days.day, category_pairs.day) < 90
    WHERE category_days.day > $first_day - 90 AND category_days.day <= $last_day
    GROUP BY category_pairs.customer_id, category_pairs.day, category_days.category
),
category_totals AS (
    SELECT customer_id, day, COUNT(*) AS categories, MAX(amount) AS top_amount,
           SUM(CASE WHEN amount > 0 THEN amount ELSE 0 END) AS total
    FROM category_sums
    GROUP BY customer_id, day
),
top_categories AS (
    -- Of several with the same revenue the first by name.
    SELECT category_totals.customer_id AS customer_id, category_totals.day AS day, MIN(category_sums.category) AS category,
           MIN(category_totals.categories) AS categories,
           MIN(CASE WHEN total > 0 THEN CAST(top_amount AS DOUBLE) / CAST(total AS DOUBLE) END) AS share
    FROM category_totals JOIN category_sums ON category_sums.customer_id = category_totals.customer_id
        AND category_sums.day = category_totals.day AND category_sums.amount = category_totals.top_amount
    GROUP BY category_totals.customer_id, category_totals.day
)
SELECT sums.customer_id AS customer_id,
       sums.day AS day,
       CAST(DATE_DIFF('day', sums.first_day, sums.day) AS BIGINT) AS known_days,
       CAST(DATE_DIFF('day', sums.first_purchase, sums.day) AS BIGINT) AS tenure_days,
       CAST(DATE_DIFF('day', sums.last_purchase, sums.day) AS BIGINT) AS recency_days,
       CAST(sums.purchase_days AS BIGINT) AS purchase_days,
       CAST(sums.orders AS BIGINT) AS orders,
       CAST(sums.lines AS BIGINT) AS lines,
       CAST(sums.spend AS DOUBLE) AS spend,
       CAST(sums.refunds AS DOUBLE) AS refunds,
       CAST(sums.first_day_spend AS DOUBLE) AS first_day_spend,
       CAST(sums.orders_28d AS BIGINT) AS orders_28d,
       CAST(sums.orders_90d AS BIGINT) AS orders_90d,
       CAST(sums.orders_prev_28d AS BIGINT) AS orders_prev_28d,
       CAST(sums.spend_28d AS DOUBLE) AS spend_28d,
       CAST(sums.spend_90d AS DOUBLE) AS spend_90d,
       CAST(sums.spend_prev_28d AS DOUBLE) AS spend_prev_28d,
       CAST(sums.purchase_days_28d AS BIGINT) AS purchase_days_28d,
       CAST(sums.purchase_days_90d AS BIGINT) AS purchase_days_90d,
       CASE WHEN sums.orders_90d > 0 THEN CAST(sums.spend_90d AS DOUBLE) / sums.orders_90d END AS average_order_90d,
       CASE WHEN sums.purchase_days > 1
            THEN CAST(DATE_DIFF('day', sums.first_purchase, sums.last_purchase) AS DOUBLE)
                 / (sums.purchase_days - 1) END AS mean_gap_days,
       CAST(COALESCE(comebacks.gap, 0) AS BIGINT) AS comeback_gap_days,
       CAST(sums.items_90d AS DOUBLE) AS items_90d,
       CAST(sums.refunds_90d AS DOUBLE) AS refunds_90d,
       CASE WHEN sums.spend_90d + sums.discount_90d > 0
            THEN CAST(sums.discount_90d AS DOUBLE) / CAST(sums.spend_90d + sums.discount_90d AS DOUBLE) END
           AS discount_share_90d,
       CAST(COALESCE(top_categories.categories, 0) AS BIGINT) AS categories_90d,
       top_categories.category AS top_category_90d,
       top_categories.share AS top_category_share_90d,
       CAST(sums.events_28d AS BIGINT) AS events_28d,
       CAST(sums.events_90d AS BIGINT) AS events_90d,
       CAST(DATE_DIFF('day', sums.last_event, sums.day) AS BIGINT) AS days_since_event,
       CAST(sums.page_views_28d AS BIGINT) AS page_views_28d,
       CAST(DATE_DIFF('day', sums.last_cart, sums.day) AS BIGINT) AS days_since_cart,
       CAST(sums.redemptions_90d AS BIGINT) AS redemptions_90d,
       CAST(sums.exposures_28d AS BIGINT) AS exposures_28d,
       CAST(sums.exposures_90d AS BIGINT) AS exposures_90d,
       CAST(DATE_DIFF('day', sums.last_exposure, sums.day) AS BIGINT) AS days_since_exposure,
       CAST(sums.balance AS DOUBLE) AS balance
FROM sums
LEFT JOIN comebacks ON comebacks.customer_id = sums.customer_id AND comebacks.day = sums.day
LEFT JOIN top_categories ON top_categories.customer_id = sums.customer_id AND top_categories.day = sums.category_day
ORDER BY sums.day, sums.customer_id
