SELECT window_start, window_end, plug, household, house, AVG(watts) AS watts
FROM HOP(TABLE plug, DESCRIPTOR(ts), INTERVAL '1' SECOND, INTERVAL '1' HOUR)
GROUP BY window_start, window_end, plug, household, house;
