CREATE VIEW grid_load AS SELECT window_start, window_end, AVG(watts) AS watts
FROM HOP(TABLE plug, DESCRIPTOR(ts), INTERVAL '1' SECOND, INTERVAL '1' HOUR)
GROUP BY window_start, window_end;
CREATE VIEW plug_load AS SELECT window_start, window_end, plug, household, house, AVG(watts) AS watts
FROM HOP(TABLE plug, DESCRIPTOR(ts), INTERVAL '1' SECOND, INTERVAL '1' HOUR)
GROUP BY window_start, window_end, plug, household, house;
SELECT l.window_start, l.house, COUNT(*) AS above
FROM plug_load AS l JOIN grid_load AS g ON l.window_start = g.window_start AND l.window_end = g.window_end
WHERE l.watts > g.watts GROUP BY l.window_start, l.window_end, l.house;
