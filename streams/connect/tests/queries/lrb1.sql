CREATE VIEW seg AS SELECT ts, vehicle, highway, direction, pos / 5280 AS segment, speed FROM car;
SELECT window_start, highway, direction, segment, AVG(speed) AS speed
FROM HOP(TABLE seg, DESCRIPTOR(ts), INTERVAL '1' SECOND, INTERVAL '5' MINUTE)
GROUP BY window_start, window_end, highway, direction, segment HAVING AVG(speed) < 40;
