-- The facts, with an order that is delivered in parts counted once, on its first day.
SELECT customer_days.* EXCLUDE (orders),
       CAST(customer_days.orders - COALESCE(repeated_orders.repeated, 0) AS BIGINT) AS orders
FROM customer_days LEFT JOIN repeated_orders
  ON repeated_orders.customer_id = customer_days.customer_id AND repeated_orders.day = customer_days.day
ORDER BY customer_days.day, customer_days.customer_id
