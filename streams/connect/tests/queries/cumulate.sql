SELECT window_start, window_end, event_type, COUNT(*) AS n
FROM CUMULATE(TABLE ad_event, DESCRIPTOR(ts), INTERVAL '2' SECOND, INTERVAL '6' SECOND)
GROUP BY window_start, window_end, event_type;
