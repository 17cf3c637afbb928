"""Queries of the bench over one file, in engines that are installed: Flink and DuckDB, through Python.

Started by `cargo xtask bench streams --files`, once for each query. Its folder has `rows.csv`, which begins with the
names of columns, and `rows.jsonl`, the same rows. It reads a command a line and answers with one:

    peers                        the engines that can be imported, with their versions
    ways ENGINE                  the ways in which it can run
    run ENGINE WAY               seconds from the start of the query until its rows are in a file
    answer ENGINE PATH           those rows as doubles, one behind the other; how many there are
    rows FROM PATH               the same of a file of JSON lines

Flink is given the file without its first line, which it cannot pass over. Its clock runs from the submission of the job
to its end; starting the virtual machine and planning are not counted.
"""
import datetime
import glob
import json
import os
import shutil
import sys
import time

import numpy

SECOND = 1_000_000
COLUMNS = {
    "CM1": [("ts", "TIMESTAMP(3)"), ("job", "BIGINT"), ("event_type", "INT"), ("category", "INT"), ("cpu", "DOUBLE")],
    "YSB": [("ts", "TIMESTAMP(3)"), ("ad", "BIGINT"), ("event_type", "BIGINT")],
}
FLINK = {
    "CM1": """SELECT window_start, category, SUM(cpu) AS cpu
        FROM TABLE(HOP(TABLE t, DESCRIPTOR(ts), INTERVAL '1' SECOND, INTERVAL '60' SECOND))
        GROUP BY window_start, window_end, category""",
    "YSB": """SELECT window_start, campaign, COUNT(*) AS n
        FROM TABLE(TUMBLE(TABLE viewed, DESCRIPTOR(ts), INTERVAL '10' SECOND))
        GROUP BY window_start, window_end, campaign""",
}
# What is looked up stands in a table of versions, all of them from the beginning.
VIEWED = """CREATE TEMPORARY VIEW viewed AS SELECT e.ts, c.campaign FROM t AS e
    JOIN campaigns FOR SYSTEM_TIME AS OF e.ts AS c ON e.ad = c.ad WHERE e.event_type = 1"""
FLINK_BATCH = {
    "CM1": FLINK["CM1"],
    "YSB": """SELECT window_start, campaign, COUNT(*) AS n
        FROM (SELECT window_start, window_end, c.campaign
            FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '10' SECOND)) AS e
            JOIN campaigns AS c ON e.ad = c.ad WHERE e.event_type = 1)
        GROUP BY window_start, window_end, campaign""",
}
DUCKDB = {
    # Sums by second first, then a frame over those: the way that costs it least.
    "CM1": f"""WITH panes AS (SELECT epoch_us(ts) // {SECOND} AS w, category, SUM(cpu) AS v FROM t GROUP BY 1, 2)
        SELECT w * {SECOND} AS window_start, category, SUM(v) OVER (PARTITION BY category ORDER BY w
            RANGE BETWEEN CURRENT ROW AND 59 FOLLOWING) AS cpu FROM panes""",
    "YSB": f"""SELECT epoch_us(ts) // {10 * SECOND} * {10 * SECOND} AS window_start, campaign, COUNT(*) AS n
        FROM t JOIN campaigns ON t.ad = campaigns.ad WHERE event_type = 1 GROUP BY 1, 2""",
}


def micros(text):
    """A time as microseconds since 1970."""
    moment = datetime.datetime.fromisoformat(text).replace(tzinfo=datetime.timezone.utc)
    return round((moment - datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)).total_seconds() * SECOND)


def doubles(rows, path):
    """Writes rows; how many there are."""
    numpy.array(rows, "<f8").tofile(path)
    return len(rows)


class DuckDb:
    """DuckDB over the lines of JSON."""

    def __init__(self, folder, name):
        import duckdb

        self.version = duckdb.__version__
        self.connection = duckdb.connect()
        self.folder, self.name = folder, name
        # It would draw its progress where answers are read.
        self.connection.execute("SET enable_progress_bar = false")
        self.connection.execute("CREATE TABLE campaigns AS SELECT range AS ad, range % 100 AS campaign FROM range(1000)")

    def ways(self):
        return ["1-thread", "2-threads"]

    def run(self, way):
        types = {"TIMESTAMP(3)": "TIMESTAMP"}
        columns = ", ".join(f"{key}: '{types.get(kind, kind)}'" for key, kind in COLUMNS[self.name])
        self.connection.execute(f"SET threads = {way[0]}")
        self.connection.execute("SET preserve_insertion_order = false")
        begun = time.perf_counter()
        table = f"read_json('{self.folder}/rows.jsonl', format = 'newline_delimited', columns = {{{columns}}})"
        self.connection.execute(
            f"COPY (WITH t AS (SELECT * FROM {table}) SELECT * FROM ({DUCKDB[self.name]})) "
            f"TO '{self.folder}/duckdb.out' (FORMAT JSON)")
        return time.perf_counter() - begun

    def answer(self, path):
        with open(f"{self.folder}/duckdb.out", encoding="utf-8") as lines:
            return doubles([list(json.loads(line).values()) for line in lines], path)


class Flink:
    """Flink over the file of commas."""

    def __init__(self, folder, name):
        import pyflink.table
        from importlib.metadata import version

        self.version = version("apache-flink")
        self.module = pyflink.table
        self.folder, self.name = folder, name
        with open(f"{folder}/rows.csv", "rb") as rows, open(f"{folder}/headless.csv", "wb") as headless:
            rows.readline()
            shutil.copyfileobj(rows, headless, 1 << 24)
        with open(f"{folder}/campaigns.csv", "w", encoding="utf-8") as campaigns:
            campaigns.writelines(f"{ad},{ad % 100},1970-01-01 00:00:00.000\n" for ad in range(1_000))

    def ways(self):
        return ["streaming-1", "streaming-2", "batch-1", "batch-2"]

    def run(self, way):
        mode, parallelism = way.split("-")
        settings = self.module.EnvironmentSettings
        settings = settings.in_streaming_mode() if mode == "streaming" else settings.in_batch_mode()
        tables = self.module.TableEnvironment.create(settings)
        config = tables.get_config()
        config.set("parallelism.default", parallelism)
        config.set("table.exec.resource.default-parallelism", parallelism)
        config.set("taskmanager.memory.network.max", "256m")
        config.set("taskmanager.memory.managed.size", "512m")
        out = f"{self.folder}/flink.out"
        shutil.rmtree(out, ignore_errors=True)
        columns = ", ".join(f"{key} {kind}" for key, kind in COLUMNS[self.name])
        # One unit behind ours: there a row at the mark is late.
        tables.execute_sql(f"""CREATE TABLE t ({columns}, WATERMARK FOR ts AS ts - INTERVAL '0.001' SECOND)
            WITH ('connector'='filesystem', 'path'='{self.folder}/headless.csv', 'format'='csv')""")
        tables.execute_sql(f"""CREATE TABLE campaigns (ad BIGINT, campaign BIGINT, beginning TIMESTAMP(3),
            WATERMARK FOR beginning AS beginning, PRIMARY KEY (ad) NOT ENFORCED)
            WITH ('connector'='filesystem', 'path'='{self.folder}/campaigns.csv', 'format'='csv')""")
        if self.name == "YSB" and mode == "streaming":
            tables.execute_sql(VIEWED)
        result = "cpu DOUBLE" if self.name == "CM1" else "n BIGINT"
        key = "category INT" if self.name == "CM1" else "campaign BIGINT"
        tables.execute_sql(f"""CREATE TABLE o (window_start TIMESTAMP(3), {key}, {result})
            WITH ('connector'='filesystem', 'path'='{out}', 'format'='csv')""")
        query = (FLINK if mode == "streaming" else FLINK_BATCH)[self.name]
        job = tables.execute_sql(f"INSERT INTO o {query}")
        begun = time.perf_counter()
        job.wait()
        return time.perf_counter() - begun

    def answer(self, path):
        rows = []
        for file in glob.glob(f"{self.folder}/flink.out/**", recursive=True):
            if os.path.isfile(file) and os.path.basename(file)[0] not in "._":
                with open(file, encoding="utf-8") as lines:
                    for line in lines:
                        start, *rest = line.rstrip("\n").split(",")
                        rows.append([micros(start.strip('"'))] + [float(value) for value in rest])
        return doubles(rows, path)


def main():
    folder, name = sys.argv[1], sys.argv[2]
    engines = {}
    for engine in (DuckDb, Flink):
        try:
            engines[engine.__name__] = engine(folder, name)
        except ImportError as error:
            print(f"{engine.__name__}: {error}", file=sys.stderr)
    for line in sys.stdin:
        words = line.split()
        if words[0] == "peers":
            print(" ".join(f"{key} {engine.version}" for key, engine in engines.items()), flush=True)
        elif words[0] == "ways":
            print(" ".join(engines[words[1]].ways()), flush=True)
        elif words[0] == "run":
            print(engines[words[1]].run(words[2]), flush=True)
        elif words[0] == "answer":
            print(engines[words[1]].answer(words[2]), flush=True)
        elif words[0] == "rows":
            with open(words[1], encoding="utf-8") as lines:
                rows = [list(json.loads(row).values()) for row in lines]
            print(doubles([[micros(row[0])] + row[1:] for row in rows], words[2]), flush=True)


main()
