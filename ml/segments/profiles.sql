-- KPIs per string, then rolled up to each of its prefixes. Money is summed as decimals: the order of adding never
-- shows.
WITH leaves AS (
    SELECT members.day AS day, members.micro_segment AS leaf,
           COUNT(*) AS customers,
           SUM(CASE WHEN inputs.orders_28d > 0 THEN 1 ELSE 0 END) AS buyers,
           SUM(inputs.orders_28d) AS orders,
           SUM(CAST(inputs.spend_28d AS DECIMAL(18, 4))) AS revenue,
           SUM(inputs.events_28d) AS events,
           SUM(CAST(inputs.ltv AS DECIMAL(18, 4))) AS ltv,
           SUM(CAST(1 - inputs.p_alive AS DECIMAL(18, 9))) AS churning
    FROM members JOIN inputs ON inputs.customer_id = members.customer_id AND inputs.day = members.day
    WHERE members.is_primary
    GROUP BY members.day, members.micro_segment
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
           CAST(SUM(leaves.ltv) AS DOUBLE) AS ltv,
           CAST(SUM(leaves.churning) AS DOUBLE) AS churning
    FROM leaves JOIN prefixes ON prefixes.leaf = leaves.leaf
    GROUP BY leaves.day, prefixes.prefix, prefixes.prefix_id, prefixes.name, prefixes.stage, prefixes.depth
)
SELECT day,
       prefix_id AS micro_segment_id,
       prefix AS micro_segment,
       name,
       stage,
       depth,
       leaf = 1 AS is_leaf,
       CAST(customers AS BIGINT) AS customers,
       CAST(buyers AS BIGINT) AS buyers,
       CAST(buyers AS DOUBLE) / customers AS conversion,
       CAST(orders AS BIGINT) AS orders,
       revenue,
       revenue / customers AS revenue_per_customer,
       CASE WHEN orders > 0 THEN revenue / orders END AS average_order,
       CAST(events AS DOUBLE) / customers AS events_per_customer,
       ltv,
       ltv / customers AS ltv_per_customer,
       churning / customers AS p_churn
FROM sums
ORDER BY day, prefix
