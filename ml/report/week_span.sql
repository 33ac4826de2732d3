-- The days of the window that are on record.
SELECT MIN(day) AS first_day, COUNT(DISTINCT day) AS days,
       SUM(CASE WHEN from_stage IS NULL THEN 0 ELSE 1 END) AS known_before
FROM moves WHERE day > $after AND day <= $day
