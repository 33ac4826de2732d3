-- KPIs per string, then rolled up to each of its prefixes. Money is summed as decimals: the order of adding never
-- shows. Value groups are thirds of the day's customers by LTV; equal LTVs are in the same third.
WITH valued AS (
    SELECT members.day AS day, members.micro_segment AS leaf,
           inputs.orders_28d, inputs.spend_28d, inputs.events_28d, inputs.page_views_28d, inputs.ltv, inputs.p_alive,
           CASE WHEN inputs.ltv IS NOT NULL
                THEN PERCENT_RANK() OVER (PARTITION BY members.day, inputs.ltv IS NULL ORDER BY inputs.ltv) END AS ltv_rank
    FROM members JOIN inputs ON inputs.customer_id = members.customer_id AND inputs.day = members.day
    WHERE members.is_primary
),
leaves AS (
    SELECT day, leaf,
           COUNT(*) AS customers,
           SUM(CASE WHEN orders_28d > 0 THEN 1 ELSE 0 END) AS buyers,
           SUM(orders_28d) AS orders,
           SUM(CAST(spend_28d AS DECIMAL(18, 4))) AS revenue,
           SUM(events_28d) AS events,
           SUM(page_views_28d) AS page_views,
           SUM(CAST(ltv AS DECIMAL(18, 4))) AS ltv,
           SUM(CAST(1 - p_alive AS DECIMAL(18, 9))) AS churning,
           SUM(CASE WHEN ltv_rank < 1.0 / 3 THEN 1 ELSE 0 END) AS ltv_tercile_low,
           SUM(CASE WHEN ltv_rank >= 1.0 / 3 AND ltv_rank < 2.0 / 3 THEN 1 ELSE 0 END) AS ltv_tercile_mid,
           SUM(CASE WHEN ltv_rank >= 2.0 / 3 THEN 1 ELSE 0 END) AS ltv_tercile_high
    FROM valued
    GROUP BY day, leaf
),
totals AS (
    SELECT day, SUM(ltv) AS ltv, SUM(page_views) AS page_views FROM leaves GROUP BY day
),
sums AS (
    SELECT leaves.day AS day, prefixes.prefix AS prefix, prefixes.prefix_id AS prefix_id, prefixes.name AS name,
           prefixes.stage AS stage, prefixes.depth AS depth,
           MAX(CASE WHEN leaves.leaf = prefixes.prefix THEN 1 ELSE 0 END) AS leaf,
           SUM(leaves.customers) AS customers,
           SUM(leaves.buyers) AS buyers,
           SUM(leaves.orders) AS orders,
           CAST(SUM(leaves.revenue) AS DOUBLE) AS revenue,
           SUM(leaves.events) AS events,
           SUM(leaves.page_views) AS page_views,
           CAST(SUM(leaves.ltv) AS DOUBLE) AS ltv,
           CAST(SUM(leaves.churning) AS DOUBLE) AS churning,
           SUM(leaves.ltv_tercile_low) AS ltv_tercile_low,
           SUM(leaves.ltv_tercile_mid) AS ltv_tercile_mid,
           SUM(leaves.ltv_tercile_high) AS ltv_tercile_high
    FROM leaves JOIN prefixes ON prefixes.leaf = leaves.leaf
    GROUP BY leaves.day, prefixes.prefix, prefixes.prefix_id, prefixes.name, prefixes.stage, prefixes.depth
)
SELECT sums.day AS day,
       sums.prefix_id AS micro_segment_id,
       sums.prefix AS micro_segment,
       sums.name AS name,
       sums.stage AS stage,
       sums.depth AS depth,
       sums.leaf = 1 AS is_leaf,
       CAST(sums.customers AS BIGINT) AS customers,
       CAST(sums.buyers AS BIGINT) AS buyers,
       CAST(sums.buyers AS DOUBLE) / sums.customers AS conversion,
       CAST(sums.orders AS BIGINT) AS orders,
       sums.revenue AS revenue,
       sums.revenue / sums.customers AS revenue_per_customer,
       CASE WHEN sums.orders > 0 THEN sums.revenue / sums.orders END AS average_order,
       CAST(sums.events AS DOUBLE) / sums.customers AS events_per_customer,
       CASE WHEN totals.page_views > 0 THEN CAST(sums.page_views AS DOUBLE) / sums.customers END
           AS page_views_per_customer,
       sums.ltv AS ltv,
       CASE WHEN totals.ltv > 0 THEN sums.ltv / CAST(totals.ltv AS DOUBLE) END AS ltv_share,
       sums.ltv / sums.customers AS ltv_per_customer,
       sums.churning / sums.customers AS p_churn,
       CAST(sums.ltv_tercile_low AS BIGINT) AS ltv_tercile_low,
       CAST(sums.ltv_tercile_mid AS BIGINT) AS ltv_tercile_mid,
       CAST(sums.ltv_tercile_high AS BIGINT) AS ltv_tercile_high
FROM sums JOIN totals ON totals.day = sums.day
ORDER BY sums.day, sums.prefix
