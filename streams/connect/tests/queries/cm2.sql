SELECT window_start, job, SUM(cpu) AS cpu
FROM HOP(TABLE task, DESCRIPTOR(ts), INTERVAL '1' SECOND, INTERVAL '60' SECOND)
WHERE event_type = 1 GROUP BY window_start, window_end, job;
