SELECT auction, COUNT(*) AS bids, MAX(price) AS most FROM bid GROUP BY auction HAVING COUNT(*) > 1 ORDER BY bids DESC, auction LIMIT 10;
