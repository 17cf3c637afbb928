SELECT window_start, category, SUM(cpu) AS cpu
FROM HOP(TABLE task, DESCRIPTOR(ts), INTERVAL '1' SECOND, INTERVAL '60' SECOND)
GROUP BY window_start, window_end, category;
