"""What the negative controls do to a throw-away copy of a database: one row each, as data.

``victims`` is a query for what can be broken, in the order in which to try; each row's first column is put in the place
of ``{}`` in ``break_it``. Both run as a superuser in a transaction of the copy that is rolled back.
"""

from __future__ import annotations

import dataclasses
from typing import Final


@dataclasses.dataclass(frozen=True, kw_only=True)
class Breakage:
    """One way to break a database. ``table``: the victim's table, whose rows are read again, is the second column."""

    name: str
    breaks: str
    expects: tuple[str, ...]
    victims: str
    break_it: str
    table: bool = False
    # The trigger that protects a row would keep the control from breaking it.
    without_triggers: bool = False


_USER: Final = "n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_(toast|temp)'"
_NOT_EXTENSION: Final = "NOT EXISTS (SELECT FROM pg_depend e WHERE e.objid = {oid} AND e.deptype = 'e')"
_FULL_TABLES: Final = f"""
SELECT format('%I.%I', n.nspname, c.relname), format('%I.%I', n.nspname, c.relname)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND {_USER} AND {_NOT_EXTENSION.format(oid="c.oid")} AND pg_relation_size(c.oid) > 0
ORDER BY pg_relation_size(c.oid), 1"""
_CELLS: Final = f"""
SELECT format('UPDATE %1$I.%2$I SET %3$I = %3$I || ''.'' WHERE ctid = (SELECT max(ctid) FROM %1$I.%2$I'
              ' WHERE %3$I IS NOT NULL)',
              n.nspname, c.relname, a.attname), format('%I.%I', n.nspname, c.relname)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_attribute a ON a.attrelid = c.oid
WHERE c.relkind = 'r' AND {_USER} AND {_NOT_EXTENSION.format(oid="c.oid")} AND pg_relation_size(c.oid) > 0
  AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '' AND a.atttypid = 'text'::regtype
ORDER BY pg_relation_size(c.oid), 1"""

BREAKAGES: Final = (
    Breakage(
        name="row lost",
        breaks="one row deleted from a table",
        expects=("ROWS-LOST",),
        victims=_FULL_TABLES,
        break_it="DELETE FROM {} WHERE ctid = (SELECT max(ctid) FROM {})",
        table=True,
        without_triggers=True,
    ),
    Breakage(
        name="row doubled",
        breaks="one row inserted a second time",
        expects=("ROWS-UNEXPECTED",),
        victims=_FULL_TABLES,
        break_it="INSERT INTO {} SELECT * FROM {} LIMIT 1",
        table=True,
        without_triggers=True,
    ),
    Breakage(
        name="cell altered",
        breaks="one character added to one cell",
        expects=("ROWS-ALTERED",),
        victims=_CELLS,
        break_it="{}",
        table=True,
        without_triggers=True,
    ),
    Breakage(
        name="table lost",
        breaks="a table dropped, with what hangs on it",
        expects=("TABLE-LOST",),
        victims=_FULL_TABLES,
        break_it="DROP TABLE {} CASCADE",
    ),
    Breakage(
        name="column lost",
        breaks="a column dropped",
        expects=("COLUMN-LOST",),
        victims=f"""
            SELECT format('ALTER TABLE %I.%I DROP COLUMN %I CASCADE', n.nspname, c.relname, a.attname)
            FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_attribute a ON a.attrelid = c.oid
            WHERE c.relkind = 'r' AND NOT c.relispartition AND {_USER} AND {_NOT_EXTENSION.format(oid="c.oid")}
              AND a.attnum > 1 AND NOT a.attisdropped ORDER BY 1""",
        break_it="{}",
    ),
    Breakage(
        name="index lost",
        breaks="an index dropped that no constraint needs",
        expects=("INDEX-LOST",),
        victims=f"""
            SELECT format('%I.%I', n.nspname, c.relname) FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
            JOIN pg_namespace n ON n.oid = c.relnamespace WHERE {_USER} AND NOT c.relispartition
              AND NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conindid = c.oid) ORDER BY 1""",
        break_it="DROP INDEX {}",
    ),
    Breakage(
        name="constraint lost",
        breaks="a foreign key or check dropped",
        expects=("CONSTRAINT-LOST",),
        victims=f"""
            SELECT format('ALTER TABLE %I.%I DROP CONSTRAINT %I', n.nspname, c.relname, k.conname)
            FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace
            WHERE k.contype IN ('f', 'c') AND k.conparentid = 0 AND k.conislocal AND {_USER}
            ORDER BY k.contype DESC, 1""",
        break_it="{}",
    ),
    Breakage(
        name="trigger lost",
        breaks="a trigger dropped",
        expects=("TRIGGER-LOST",),
        victims=f"""
            SELECT format('%I ON %I.%I', t.tgname, n.nspname, c.relname) FROM pg_trigger t
            JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace
            WHERE NOT t.tgisinternal AND t.tgparentid = 0 AND {_USER} ORDER BY 1""",
        break_it="DROP TRIGGER {}",
    ),
    Breakage(
        name="function lost",
        breaks="a function dropped, with what hangs on it",
        expects=("FUNCTION-LOST",),
        victims=f"""
            SELECT p.oid::regprocedure::text FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
            WHERE {_USER} AND p.prokind = 'f' AND {_NOT_EXTENSION.format(oid="p.oid")} ORDER BY 1""",
        break_it="DROP FUNCTION {} CASCADE",
    ),
    Breakage(
        name="view lost",
        breaks="a view dropped",
        expects=("VIEW-LOST",),
        victims=f"""
            SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
            WHERE c.relkind = 'v' AND {_USER} AND {_NOT_EXTENSION.format(oid="c.oid")} ORDER BY 1""",
        break_it="DROP VIEW {} CASCADE",
    ),
    Breakage(
        name="materialised view unpopulated",
        breaks="a materialised view emptied",
        expects=("MATVIEW-UNPOPULATED",),
        victims=f"""
            SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
            WHERE c.relkind = 'm' AND c.relispopulated AND {_USER} ORDER BY 1""",
        break_it="REFRESH MATERIALIZED VIEW {} WITH NO DATA",
    ),
    Breakage(
        name="policy lost",
        breaks="a row-level security policy dropped",
        expects=("POLICY-LOST",),
        victims="""
            SELECT format('%I ON %I.%I', p.polname, n.nspname, c.relname) FROM pg_policy p
            JOIN pg_class c ON c.oid = p.polrelid JOIN pg_namespace n ON n.oid = c.relnamespace ORDER BY 1""",
        break_it="DROP POLICY {}",
    ),
    Breakage(
        name="grant lost",
        breaks="one privilege on a table revoked from a role",
        expects=("GRANT-LOST",),
        victims=f"""
            SELECT format('%s ON %I.%I FROM %I', x.privilege_type, n.nspname, c.relname, pg_get_userbyid(x.grantee))
            FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace CROSS JOIN LATERAL aclexplode(c.relacl) x
            WHERE c.relkind IN ('r', 'p') AND x.grantee NOT IN (0, c.relowner) AND {_USER} ORDER BY 1""",
        break_it="REVOKE {}",
    ),
    Breakage(
        name="privilege gained",
        breaks="a table opened to every role",
        expects=("GRANT-UNEXPECTED",),
        victims=_FULL_TABLES,
        break_it="GRANT DELETE ON {} TO PUBLIC",
    ),
    Breakage(
        name="role membership lost",
        breaks="a role taken out of another",
        expects=("ROLE-LOST",),
        victims="""
            SELECT format('%I FROM %I', r.rolname, m.rolname) FROM pg_auth_members a
            JOIN pg_roles r ON r.oid = a.roleid JOIN pg_roles m ON m.oid = a.member
            WHERE m.rolname !~ '^pg_' ORDER BY 1""",
        break_it="REVOKE {} CASCADE",
    ),
    Breakage(
        name="role lost",
        breaks="a role under another name",
        expects=("ROLE-LOST",),
        victims="""
            SELECT quote_ident(rolname) FROM pg_roles WHERE rolname !~ '^pg_' AND rolname <> current_user ORDER BY 1""",
        break_it="ALTER ROLE {} RENAME TO enprivacy_drill_renamed",
    ),
    Breakage(
        name="setting lost",
        breaks="a role's or the database's setting reset",
        expects=("SETTING-LOST",),
        victims="""
            SELECT CASE WHEN s.setrole = 0
                        THEN format('DATABASE %I RESET %s', current_database(), split_part(c, '=', 1))
                        WHEN s.setdatabase = 0 THEN format('ROLE %I RESET %s', r.rolname, split_part(c, '=', 1))
                        ELSE format('ROLE %I IN DATABASE %I RESET %s', r.rolname, current_database(),
                                    split_part(c, '=', 1)) END
            FROM pg_db_role_setting s LEFT JOIN pg_roles r ON r.oid = s.setrole CROSS JOIN unnest(s.setconfig) c
            WHERE s.setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = current_database())) ORDER BY 1""",
        break_it="ALTER {}",
    ),
    Breakage(
        name="extension lost",
        breaks="an extension dropped, with what hangs on it",
        expects=("EXTENSION-LOST",),
        victims="SELECT quote_ident(extname) FROM pg_extension WHERE extname <> 'plpgsql' ORDER BY 1",
        break_it="DROP EXTENSION {} CASCADE",
    ),
    Breakage(
        name="sequence lost",
        breaks="a sequence of its own dropped",
        expects=("SEQUENCE-LOST",),
        victims=f"""
            SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
            WHERE c.relkind = 'S' AND {_USER}
              AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = c.oid AND d.deptype IN ('i', 'e')) ORDER BY 1""",
        break_it="DROP SEQUENCE {} CASCADE",
    ),
    Breakage(
        name="comment lost",
        breaks="what was said of a table",
        expects=("SCHEMA-LOST",),
        victims=f"""
            SELECT format('%I.%I', n.nspname, c.relname) FROM pg_description d JOIN pg_class c ON c.oid = d.objoid
            JOIN pg_namespace n ON n.oid = c.relnamespace
            WHERE d.classoid = 'pg_class'::regclass AND d.objsubid = 0 AND c.relkind = 'r' AND {_USER} ORDER BY 1""",
        break_it="COMMENT ON TABLE {} IS NULL",
    ),
    Breakage(
        name="column altered",
        breaks="a column stored in another way",
        expects=("SCHEMA-ALTERED",),
        victims=f"""
            SELECT format('ALTER TABLE %I.%I ALTER COLUMN %I SET STATISTICS 7', n.nspname, c.relname, a.attname)
            FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_attribute a ON a.attrelid = c.oid
            WHERE c.relkind = 'r' AND {_USER} AND {_NOT_EXTENSION.format(oid="c.oid")}
              AND a.attnum > 0 AND NOT a.attisdropped ORDER BY 1 LIMIT 1""",
        break_it="{}",
    ),
    Breakage(
        name="table added",
        breaks="a table that the backup did not hold",
        expects=("SCHEMA-UNEXPECTED",),
        victims=f"SELECT quote_ident(n.nspname) FROM pg_namespace n WHERE {_USER} ORDER BY 1",
        break_it="CREATE TABLE {}.enprivacy_drill_added ()",
    ),
    Breakage(
        name="collation of another version",
        breaks="the version recorded for the database's collation is not the system's",
        expects=("COLLATION-MISMATCH",),
        victims="SELECT quote_literal(current_database())",
        break_it="UPDATE pg_database SET datcollversion = 'enprivacy-drill' WHERE datname = {}",
    ),
    Breakage(
        name="large object altered",
        breaks="one byte of a large object written over",
        expects=("LARGE-OBJECTS-DIFFER",),
        victims="SELECT oid::text, '(large objects)' FROM pg_largeobject_metadata ORDER BY oid",
        break_it="SELECT lo_put({}, 0, '\\x2a')",
        table=True,
    ),
)
