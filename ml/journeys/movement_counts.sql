-- What must hold before movements mean anything: one row per customer and day, and nobody gone.
SELECT (SELECT COUNT(*) - COUNT(DISTINCT customer_id) FROM today) AS twice_today,
       (SELECT COUNT(*) - COUNT(DISTINCT customer_id) FROM yesterday) AS twice_yesterday,
       (SELECT COUNT(*) - COUNT(DISTINCT customer_id) FROM restated) AS twice_restated,
       (SELECT COUNT(DISTINCT day) FROM today) AS days,
       (SELECT COUNT(*) FROM yesterday WHERE customer_id NOT IN (SELECT customer_id FROM today)) AS vanished,
       (SELECT MIN(customer_id) FROM yesterday WHERE customer_id NOT IN (SELECT customer_id FROM today))
           AS first_vanished,
       (SELECT COUNT(*) FROM yesterday WHERE customer_id NOT IN (SELECT customer_id FROM restated)) AS not_restated
