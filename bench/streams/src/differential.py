"""Random queries over random rows, in Holm and in DuckDB or Flink: what both say is compared.

Started by `cargo xtask bench streams --differential`, with the binary, a folder, a seed, how many queries and the peer.
Flink is given the very text that Holm is given; DuckDB has no such windows, and is given another one. Rows have NULLs, and come a few seconds out of order; queries filter, group by none, one or two columns, by tumbling and hopping
windows or by none, over the rows or over a UNION ALL of parts of them, and have one to five aggregates, some of them with a filter of their own. With Flink rows have BYTES and texts of JSON,
too, which are compared, taken apart and grouped by, and queries without windows are ordered by what comes out, and cut. Numbers with a fraction may differ by a part in 10^9: the other engine adds in another order.
"""
import base64
import json
import math
import random
import subprocess
import sys

COLUMNS = "ts TIMESTAMP(3), k INT, s STRING, v BIGINT, x DOUBLE, b BOOLEAN, j STRING, y BYTES"
# Bytes of 128 and more among them, and such that only their length tells apart.
BYTES = [b"", b"\x00", b"\x00\x00", b"a", b"ab", b"\x7f", b"\x80", b"\xff", b"\xff\x01"]
START = "2026-01-05"


def moment(millis):
    seconds = millis // 1_000
    return f"{START}T{10 + seconds // 3_600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}.{millis % 1_000:03}"


def rows(chance, count):
    """Rows a few seconds out of order."""
    maybe = lambda value: None if chance.random() < 0.1 else value
    at = 0
    for _ in range(count):
        at += chance.choice([0, 0, 3, 17, 250])
        yield {"ts": moment(max(0, at - chance.randrange(4_000))), "k": maybe(chance.randrange(-3, 4)),
               "s": maybe(chance.choice(["", "a", "ab", "b", "ba", "ÄÖ", "x y"])), "v": maybe(chance.randrange(-1_000, 1_000)),
               "x": maybe(chance.randrange(-4_000, 4_000) / 8 + chance.random()), "b": maybe(chance.random() < 0.5),
               "j": maybe(document(chance)), "y": maybe(base64.b64encode(chance.choice(BYTES)).decode())}


def document(chance):
    """A text of JSON, or nearly one. By its name each member is of one kind, for Flink's job fails where it is to return another one."""
    leaf = {"i": lambda: chance.choice([None, 0, 7, -3]), "d": lambda: chance.choice([None, 2.5, -0.25]),
            "t": lambda: chance.choice([None, True, False]), "a": lambda: chance.choice([None, "", "a", "12", "ÄÖ", "true"]),
            "b": lambda: chance.choice([None, True, 7, 2.5, "a"]), "c d": lambda: chance.choice([3, "x"])}
    some = lambda: {name: leaf[name]() for name in chance.sample(list(leaf), chance.randrange(5))}
    whole = some()
    if chance.random() < 0.5:
        whole["l"] = [leaf["i"]() for _ in range(chance.randrange(4))]
    if chance.random() < 0.5:
        whole["o"] = {**some(), "l": [some()]}
    text = json.dumps(whole, ensure_ascii=chance.random() < 0.5)
    return chance.choice([text, text, text, text, text, "[1, 2]", "{}", "", "{", text[:-1]])


def member(chance, kind):
    """JSON_VALUE as a kind."""
    paths = {"INT": ["$.i", "$.l[0]", "$.l[2]", "$.o.i", "$.o.l[0].i"], "DOUBLE": ["$.d", "$.o.d", "$.o.l[0].d"],
             "BOOLEAN": ["$.t", "$.o.t"], "STRING": ["$.a", "$.b", "$['c d']", "$.l[1]", "$.o.a", "$.o", "$.l", "$"]}
    path = chance.choice(["", "lax ", "strict "]) + chance.choice(paths[kind] + ["$.none"])
    # Flink's job fails with a DEFAULT that is DOUBLE.
    others = {"INT": ["DEFAULT -1"], "DOUBLE": [], "BOOLEAN": ["DEFAULT TRUE"], "STRING": ["DEFAULT 'none'"]}[kind]
    on = lambda: chance.choice(["NULL"] + others)
    returning = "" if kind == "STRING" and chance.random() < 0.5 else f" RETURNING {kind}"
    empty = f" {on()} ON EMPTY" if chance.random() < 0.4 else ""
    error = f" {on()} ON ERROR" if chance.random() < 0.4 else ""
    return f"JSON_VALUE(j, '{path.replace(chr(39), chr(39) * 2)}'{returning}{empty}{error})"


def literal(chance):
    return f"X'{chance.choice(BYTES).hex()}'"


def condition(chance, is_flinks=False, depth=0):
    """A condition that both understand alike."""
    if depth < 2 and chance.random() < 0.4:
        left, right = condition(chance, is_flinks, depth + 1), condition(chance, is_flinks, depth + 1)
        return chance.choice([f"({left} AND {right})", f"({left} OR {right})", f"NOT ({left})"])
    bound = chance.randrange(-800, 800)
    if is_flinks and chance.random() < 0.4:
        # Flink finds no bytes in a list of them, for it compares arrays by their places.
        return chance.choice([
            f"{member(chance, 'INT')} > {bound % 9}", f"{member(chance, 'DOUBLE')} < 2.6", f"{member(chance, 'BOOLEAN')} = b",
            f"{member(chance, 'STRING')} = 'a'", f"{member(chance, 'STRING')} IS NULL", f"y > {literal(chance)}",
            f"y = {literal(chance)}", f"y <> {literal(chance)}", "y IS NULL",
            "CAST(y AS STRING) = 'ab'", "CAST(s AS BYTES) = y", f"y BETWEEN {literal(chance)} AND X'80'"])
    return chance.choice([
        f"v > {bound}", f"v <= {bound}", f"x < {bound / 4}", f"x BETWEEN {-abs(bound)} AND {abs(bound)}", "s LIKE 'a%'",
        "s LIKE '%b'", "s LIKE '_a'", "s IN ('a', 'b', 'x y')", "s NOT IN ('a', 'ab')", "k IS NULL", "x IS NOT NULL", "b",
        f"k = {bound % 4}", f"v + k > {bound}", f"v * 2 - k < {bound}", f"ABS(v) > {abs(bound)}",
        f"COALESCE(v, {bound}) > 0", f"CASE WHEN k > 0 THEN v ELSE x END > {bound}", "s = 'ab'", "s || 'z' > 'b'",
        "CHAR_LENGTH(s) > 1"])


def aggregate(chance, is_flinks):
    """An aggregate, as it is for both."""
    text = chance.choice([f"SUM({member(chance, 'INT')})", f"COUNT({member(chance, 'STRING')})", f"MAX({member(chance, 'DOUBLE')})",
                          "COUNT(y)", f"MIN({member(chance, 'STRING')})"]) if is_flinks and chance.random() < 0.3 else chance.choice([
        "COUNT(*)", "COUNT(v)", "COUNT(s)", "SUM(v)", "SUM(x)", "AVG(x)", "MIN(v)", "MAX(v)", "MIN(x)", "MAX(x)", "MIN(s)",
        "MAX(s)", "COUNT(DISTINCT s)", "COUNT(DISTINCT k)", "STDDEV_POP(x)", "STDDEV_SAMP(x)", "VAR_POP(x)", "VAR_SAMP(x)",
        "SUM(v * 2 + k)", "SUM(CASE WHEN b THEN v ELSE 0 END)", "MAX(x - v)", "SUM(ABS(v))"])
    if chance.random() < 0.3:
        text += f" FILTER (WHERE {condition(chance, is_flinks)})"
    return text


def union(chance, is_flinks):
    """Two to three parts of the rows, some of them changed."""
    columns = ["ts, k, s, v, x, b", "ts, k, s, v * 3 - 1 AS v, x, NOT b AS b", "ts, k + 1 AS k, s || 'u' AS s, v, x / 2 AS x, b",
               "ts, k, 'one' AS s, v, x, TRUE AS b"]
    if is_flinks:
        columns = [f"{text}, {last}" for text in columns for last in ["j, y", "'{\"a\": 7}' AS j, X'80' AS y", "j, CAST(s AS BYTES) AS y"]]
    parts = [f"SELECT {chance.choice(columns)} FROM {{}} WHERE {condition(chance, is_flinks)}" for _ in range(chance.choice([2, 2, 3]))]
    return " UNION ALL ".join(parts)


def query(chance, is_flinks):
    """One query, for each of the two, how many of its first columns are keys, and whether it is ordered by all that comes out.

    Flink wants hopping windows that are a multiple of their slide.
    """
    keys = chance.choice([[], ["k"], ["s"], ["b"], ["k", "s"], ["s", "b"]] + ([["y"], ["y", "k"]] if is_flinks else []))
    values = [f"{aggregate(chance, is_flinks)} AS r{at}" for at in range(chance.randrange(1, 6))]
    where = f" WHERE {condition(chance, is_flinks)}" if chance.random() < 0.6 else ""
    kind = chance.choice(["none", "tumble", "hop"])
    united = None if chance.random() < 0.6 else union(chance, is_flinks)
    ours_of, ours_as, theirs_of = "stdin", "", "t"
    if united:
        of = lambda name: united.replace("FROM {}", f"FROM {name}")
        ours_of, ours_as, theirs_of = "u", f"WITH u AS ({of('stdin')}) ", f"({of('t')}) AS u"
    size = chance.choice([1, 2, 5, 10, 60])
    if kind == "none":
        keys = keys or ["k"]
        text = f"SELECT {', '.join(keys + values)} FROM {{}}{where} GROUP BY {', '.join(keys)}"
        is_ordered = is_flinks and chance.random() < 0.5
        if is_ordered:
            # Counts are alike to the last digit, and keys tell the rest apart.
            text = text.replace(" FROM {}", ", COUNT(*) AS many FROM {}", 1)
            order = [name + chance.choice(["", " ASC", " DESC"]) for name in chance.sample(keys, len(keys))]
            order.insert(chance.randrange(len(order) + 1), "many" + chance.choice(["", " DESC"]))
            text += f" ORDER BY {', '.join(order)}" + chance.choice(["", " LIMIT 3"])
        return ours_as + text.format(ours_of), text.format(theirs_of), len(keys), is_ordered
    slides = [it for it in [1, 2, 5, 10, 60] if size % it == 0 or it < size and not is_flinks]
    slide = size if kind == "tumble" else chance.choice(slides)
    window = (f"TUMBLE(TABLE {ours_of}, DESCRIPTOR(ts), INTERVAL '{size}' SECOND)" if kind == "tumble"
              else f"HOP(TABLE {ours_of}, DESCRIPTOR(ts), INTERVAL '{slide}' SECOND, INTERVAL '{size}' SECOND)")
    by = ["window_start"] + keys
    ours = (f"{ours_as}SELECT {', '.join(by + values)} FROM {window}{where} "
            f"GROUP BY {', '.join(['window_start', 'window_end'] + keys)}")
    # Each row stands once for each window that it is in.
    rows = (f"(SELECT *, to_timestamp(w * {slide})::TIMESTAMP AS window_start FROM (SELECT *, unnest(generate_series("
            f"(epoch_ms(ts) - {size * 1_000}) // {slide * 1_000} + 1, epoch_ms(ts) // {slide * 1_000})) AS w FROM {theirs_of}))")
    return ours, f"SELECT {', '.join(by + values)} FROM {rows}{where} GROUP BY {', '.join(by)}", len(by), False


def plain(value):
    """A value as it is compared."""
    if hasattr(value, "isoformat"):
        return value.isoformat(timespec="milliseconds")
    if isinstance(value, (bytes, bytearray)):
        return base64.b64encode(value).decode()
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else value


def is_near(one, other):
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-7)
    return one == other


def sorted_rows(found, keys, is_ordered):
    found = [list(map(plain, row)) for row in found]
    return found if is_ordered else sorted(found, key=lambda row: [(it is None, str(it)) for it in row[:keys]])


class DuckDb:
    """DuckDB, with the rows in a table."""

    def __init__(self):
        import duckdb

        self.name = f"DuckDB {duckdb.__version__}"
        self.connection = duckdb.connect()
        self.connection.execute("SET TimeZone = 'UTC'")

    def take(self, path):
        types = "{ts: 'TIMESTAMP', k: 'INT', s: 'VARCHAR', v: 'BIGINT', x: 'DOUBLE', b: 'BOOLEAN', j: 'VARCHAR', y: 'VARCHAR'}"
        self.connection.execute(f"CREATE OR REPLACE TABLE t AS SELECT * FROM read_json('{path}', "
                                f"format = 'newline_delimited', columns = {types})")

    def answer(self, _ours, theirs):
        return self.connection.execute(theirs).fetchall()


class Flink:
    """Flink, streaming where there are windows."""

    def __init__(self):
        from importlib.metadata import version

        from pyflink.table import EnvironmentSettings, TableEnvironment

        self.name = f"Flink {version('apache-flink')}"
        modes = {True: EnvironmentSettings.in_streaming_mode(), False: EnvironmentSettings.in_batch_mode()}
        self.tables = {key: TableEnvironment.create(mode) for key, mode in modes.items()}
        for tables in self.tables.values():
            tables.get_config().set("parallelism.default", "1")
            tables.get_config().set("table.exec.resource.default-parallelism", "1")

    def take(self, path):
        for tables in self.tables.values():
            tables.execute_sql("DROP TABLE IF EXISTS stdin")
            # One unit behind ours: there a row at the mark is late.
            tables.execute_sql(f"CREATE TABLE stdin ({COLUMNS}, WATERMARK FOR ts AS ts - INTERVAL '5.001' SECOND) "
                               f"WITH ('connector'='filesystem', 'path'='{path}', 'format'='json', "
                               "'json.timestamp-format.standard'='ISO-8601')")

    def answer(self, ours, _theirs):
        has_windows = "DESCRIPTOR" in ours
        for name in ("TUMBLE", "HOP"):
            if f"FROM {name}(" in ours:
                start = ours.index(f"FROM {name}(") + 5
                end = ours.index(" SECOND)", start) + len(" SECOND)")
                ours = f"{ours[:start]}TABLE({ours[start:end]}){ours[end:]}"
        with self.tables[has_windows].execute_sql(ours).collect() as found:
            return [list(row) for row in found]


def main():
    binary, folder, seed, count = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    peer = Flink() if sys.argv[5] == "flink" else DuckDb()
    compared = 0
    for number in range(count):
        chance = random.Random(seed * 1_000_003 + number)
        if number % 20 == 0:
            with open(f"{folder}/rows.jsonl", "w", encoding="utf-8") as lines:
                lines.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows(chance, 2_000))
            peer.take(f"{folder}/rows.jsonl")
        ours, theirs, keys, is_ordered = query(chance, isinstance(peer, Flink))
        table = f"CREATE TABLE stdin ({COLUMNS}, WATERMARK FOR ts AS ts - INTERVAL '5' SECOND) WITH ('connector'='stdin'); "
        with open(f"{folder}/rows.jsonl", "rb") as lines:
            ran = subprocess.run([binary, "stream", "run", "--sql", table + ours], stdin=lines, capture_output=True, check=False)
        told = ran.stderr.decode().strip().splitlines()
        if ran.returncode != 0 or " 0 late, 0 diverted" not in told[-1]:
            sys.exit(f"query {number}: {ours}\n{ran.stderr.decode()}")
        found = [list(json.loads(line).values()) for line in ran.stdout.decode().splitlines()]
        try:
            wanted = peer.answer(ours, theirs)
        except Exception as error:
            why = [line for line in str(error).splitlines() if line.startswith("Caused by")] or [str(error)]
            sys.exit(f"query {number}: {peer.name} fails: {ours}\n{why[-1]}")
        found, wanted = sorted_rows(found, keys, is_ordered), sorted_rows(wanted, keys, is_ordered)
        if len(found) != len(wanted):
            sys.exit(f"query {number}: {len(found)} rows, and {len(wanted)} wanted: {ours}")
        for one, other in zip(found, wanted):
            if len(one) != len(other) or not all(map(is_near, one, other)):
                sys.exit(f"query {number}: {one}, and {other} wanted: {ours}")
        compared += len(found)
    print(f"{count} queries of seed {seed}: {compared} rows are those of {peer.name}")


main()
