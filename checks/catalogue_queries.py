"""The questions put to the catalogue: each row is a kind, an identity, and attributes named by the columns.

Nothing here may show an internal number, or a position or name that a faithful restore changes; an attribute that is
NULL counts as not set. Objects that belong to an extension are left out, since the extension's version stands for them.
Attributes called ``definition``, ``default``, ``using`` or ``check`` are expressions and are brought into one form.
"""

from __future__ import annotations

from typing import Final


def user_object(namespace: str = "n") -> str:
    """Give the condition that a namespace is not the server's own."""
    return (
        f"{namespace}.nspname NOT IN ('pg_catalog', 'information_schema') AND {namespace}.nspname !~ '^pg_(toast|temp)'"
    )


def free_of_extensions(catalogue: str, oid: str) -> str:
    """Give the condition that no extension owns the object with this OID in this system catalogue."""
    return (
        f"NOT EXISTS (SELECT FROM pg_depend x WHERE x.classid = '{catalogue}'::regclass"
        f" AND x.objid = {oid} AND x.deptype = 'e')"
    )


_NAME: Final = "format('%I.%I', n.nspname, c.relname)"
_RELATION: Final = f"{user_object()} AND {free_of_extensions('pg_class', 'c.oid')}"
_JOIN: Final = "JOIN pg_namespace n ON n.oid = c.relnamespace"

SCHEMAS: Final = f"""
SELECT 'schema' AS kind, quote_ident(nspname) AS identity, pg_get_userbyid(nspowner) AS owner
FROM pg_namespace n WHERE {user_object()} AND {free_of_extensions("pg_namespace", "n.oid")}
"""

RELATIONS: Final = f"""
SELECT CASE c.relkind WHEN 'v' THEN 'view' WHEN 'm' THEN 'materialised view' ELSE 'table' END AS kind,
       {_NAME} AS identity, c.relkind, pg_get_userbyid(c.relowner) AS owner, c.relpersistence AS persistence,
       (SELECT string_agg(o, ', ' ORDER BY o) FROM unnest(c.reloptions) o) AS options,
       (SELECT string_agg(o, ', ' ORDER BY o) FROM pg_class t, unnest(t.reloptions) o
        WHERE t.oid = c.reltoastrelid) AS toast_options,
       (SELECT spcname FROM pg_tablespace WHERE oid = c.reltablespace) AS tablespace,
       (SELECT amname FROM pg_am WHERE oid = c.relam) AS access_method,
       CASE WHEN c.relreplident <> 'd' THEN c.relreplident END AS replica_identity,
       CASE WHEN c.reloftype <> 0 THEN format_type(c.reloftype, NULL) END AS of_type,
       CASE WHEN c.relkind = 'p' THEN pg_get_partkeydef(c.oid) END AS partition_key,
       pg_get_expr(c.relpartbound, c.oid) AS bound,
       (SELECT string_agg(i.inhparent::regclass::text, ', ' ORDER BY i.inhseqno) FROM pg_inherits i
        WHERE i.inhrelid = c.oid) AS parents,
       CASE WHEN c.relkind = 'm' THEN c.relispopulated END AS populated,
       CASE WHEN c.relkind IN ('v', 'm') THEN pg_get_viewdef(c.oid) END AS definition
FROM pg_class c {_JOIN} WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND {_RELATION}
"""

ROW_SECURITY: Final = f"""
SELECT 'row security' AS kind, {_NAME} || s.word AS identity
FROM pg_class c {_JOIN} CROSS JOIN LATERAL (
    SELECT ' enabled' AS word WHERE c.relrowsecurity UNION ALL SELECT ' forced' WHERE c.relforcerowsecurity) s
WHERE (c.relrowsecurity OR c.relforcerowsecurity) AND {_RELATION}
"""

# The place of a column counts, except below a parent that is no partitioned table: a dump writes inherited columns
# first. Numbers with gaps, left by dropped columns, become ranks.
COLUMNS: Final = f"""
SELECT 'column' AS kind, {_NAME} || '.' || quote_ident(a.attname) AS identity,
       format_type(a.atttypid, a.atttypmod) AS type, nullif(a.attnotnull, false) AS not_null,
       pg_get_expr(d.adbin, d.adrelid) AS default,
       nullif(a.attidentity, '') AS identity_kind, nullif(a.attgenerated, '') AS generated,
       CASE WHEN a.attcollation <> t.typcollation THEN a.attcollation::regcollation::text END AS collation,
       CASE WHEN a.attstorage <> t.typstorage THEN a.attstorage END AS storage,
       nullif(a.attcompression, '') AS compression, nullif(a.attstattarget, -1) AS statistics_target,
       (SELECT string_agg(o, ', ' ORDER BY o) FROM unnest(a.attoptions) o) AS options,
       CASE WHEN c.relispartition OR NOT EXISTS (SELECT FROM pg_inherits i WHERE i.inhrelid = c.oid)
            THEN row_number() OVER (PARTITION BY c.oid ORDER BY a.attnum) END AS place
FROM pg_class c {_JOIN} JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
JOIN pg_type t ON t.oid = a.atttypid LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND {_RELATION}
"""

# Foreign keys that the server clones onto partitions have names of its choosing and are never dumped: their parent
# stands for them. Constraint triggers are listed with the triggers.
CONSTRAINTS: Final = f"""
SELECT 'constraint' AS kind, {_NAME} || ': ' || quote_ident(k.conname) AS identity, k.contype,
       pg_get_constraintdef(k.oid) AS definition, k.convalidated AS validated,
       nullif(k.coninhcount > 0, false) AS inherited
FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid {_JOIN}
WHERE k.contype <> 't' AND NOT (k.contype = 'f' AND k.conparentid <> 0) AND {_RELATION}
UNION ALL
SELECT 'constraint', format('%I.%I', n.nspname, t.typname) || ': ' || quote_ident(k.conname), k.contype,
       pg_get_constraintdef(k.oid), k.convalidated, NULL
FROM pg_constraint k JOIN pg_type t ON t.oid = k.contypid JOIN pg_namespace n ON n.oid = t.typnamespace
WHERE {user_object()} AND {free_of_extensions("pg_type", "t.oid")}
"""

INDEXES: Final = f"""
SELECT 'index' AS kind, format('%I.%I', n.nspname, i.relname) AS identity, {_NAME} AS on_table,
       pg_get_indexdef(i.oid) AS definition, x.indisvalid AS valid, nullif(x.indisclustered, false) AS clustered,
       nullif(x.indisreplident, false) AS replica_identity, nullif(x.indisprimary, false) AS primary,
       (SELECT h.inhparent::regclass::text FROM pg_inherits h WHERE h.inhrelid = i.oid) AS parent,
       (SELECT spcname FROM pg_tablespace WHERE oid = i.reltablespace) AS tablespace
FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_class c ON c.oid = x.indrelid {_JOIN}
WHERE {_RELATION}
"""

SEQUENCES: Final = f"""
SELECT 'sequence' AS kind, {_NAME} AS identity, format_type(s.seqtypid, NULL) AS type, s.seqstart AS start,
       s.seqincrement AS increment, s.seqmin AS minimum, s.seqmax AS maximum, s.seqcycle AS cycle, s.seqcache AS cache,
       pg_get_userbyid(c.relowner) AS owner, c.relpersistence AS persistence,
       (SELECT format('%s.%I', d.refobjid::regclass, a.attname) FROM pg_depend d
        JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
        WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.refclassid = 'pg_class'::regclass
          AND d.deptype IN ('a', 'i') AND d.refobjsubid > 0) AS owned_by
FROM pg_sequence s JOIN pg_class c ON c.oid = s.seqrelid {_JOIN} WHERE {_RELATION}
"""

# A body given as text is kept to the letter; one that the server parsed (BEGIN ATOMIC) is an expression.
FUNCTIONS: Final = f"""
SELECT 'function' AS kind, format('%I.%I(%s)', n.nspname, p.proname, pg_get_function_identity_arguments(p.oid))
       AS identity, pg_get_userbyid(p.proowner) AS owner, p.prokind,
       CASE WHEN p.prokind <> 'a' AND p.prosqlbody IS NULL THEN pg_get_functiondef(p.oid) END AS source,
       CASE WHEN p.prokind <> 'a' AND p.prosqlbody IS NOT NULL THEN pg_get_functiondef(p.oid) END AS definition,
       CASE WHEN p.prokind = 'a' THEN pg_get_function_result(p.oid) END AS result,
       CASE WHEN p.prokind = 'a' THEN p.proparallel END AS parallel,
       CASE WHEN p.prokind = 'a' THEN format('%s %s %s %s %s %s %s %s %s %s %s', a.aggtransfn, a.aggfinalfn,
            a.aggcombinefn, a.aggserialfn, a.aggdeserialfn, a.aggkind, a.aggnumdirectargs,
            format_type(a.aggtranstype, NULL), a.agginitval, a.aggsortop::regoperator, a.aggfinalmodify)
       END AS aggregate
FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace LEFT JOIN pg_aggregate a ON a.aggfnoid = p.oid
WHERE {user_object()} AND {free_of_extensions("pg_proc", "p.oid")}
"""

TRIGGERS: Final = f"""
SELECT 'trigger' AS kind, {_NAME} || ': ' || quote_ident(g.tgname) AS identity,
       pg_get_triggerdef(g.oid) AS definition, g.tgenabled AS enabled
FROM pg_trigger g JOIN pg_class c ON c.oid = g.tgrelid {_JOIN} WHERE NOT g.tgisinternal AND {_RELATION}
UNION ALL
SELECT 'trigger', 'event trigger ' || quote_ident(e.evtname),
       format('%s %s %s', e.evtevent, e.evtfoid::regproc, e.evttags), e.evtenabled
FROM pg_event_trigger e WHERE {free_of_extensions("pg_event_trigger", "e.oid")}
"""

RULES: Final = f"""
SELECT 'rule' AS kind, {_NAME} || ': ' || quote_ident(r.rulename) AS identity,
       pg_get_ruledef(r.oid) AS definition, r.ev_enabled AS enabled
FROM pg_rewrite r JOIN pg_class c ON c.oid = r.ev_class {_JOIN} WHERE r.rulename <> '_RETURN' AND {_RELATION}
"""

POLICIES: Final = f"""
SELECT 'policy' AS kind, {_NAME} || ': ' || quote_ident(p.polname) AS identity, p.polcmd AS command,
       p.polpermissive AS permissive,
       (SELECT string_agg(CASE r WHEN 0 THEN 'PUBLIC' ELSE pg_get_userbyid(r)::text END, ', ' ORDER BY 1)
        FROM unnest(p.polroles) r) AS roles,
       pg_get_expr(p.polqual, p.polrelid) AS using, pg_get_expr(p.polwithcheck, p.polrelid) AS check
FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid {_JOIN} WHERE {_RELATION}
"""

TYPES: Final = f"""
SELECT 'type' AS kind, format('%I.%I', n.nspname, t.typname) AS identity, t.typtype,
       pg_get_userbyid(t.typowner) AS owner,
       (SELECT string_agg(quote_literal(e.enumlabel), ', ' ORDER BY e.enumsortorder) FROM pg_enum e
        WHERE e.enumtypid = t.oid) AS labels,
       CASE WHEN t.typtype = 'd' THEN format_type(t.typbasetype, t.typtypmod) END AS base,
       nullif(t.typnotnull, false) AS not_null, t.typdefault AS default,
       CASE WHEN t.typtype = 'd' AND t.typcollation <> 0 THEN t.typcollation::regcollation::text END AS collation,
       (SELECT string_agg(format('%I %s', a.attname, format_type(a.atttypid, a.atttypmod)), ', ' ORDER BY a.attnum)
        FROM pg_attribute a WHERE a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped) AS attributes,
       (SELECT format('%s %s %s %s %s', format_type(r.rngsubtype, NULL), format_type(r.rngmultitypid, NULL),
               r.rngcollation::regcollation, r.rngcanonical, r.rngsubdiff) FROM pg_range r
        WHERE r.rngtypid = t.oid) AS range,
       CASE WHEN t.typtype = 'b' THEN concat_ws(' ', t.typinput, t.typoutput, t.typlen, t.typalign) END AS base_io
FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace LEFT JOIN pg_class k ON k.oid = t.typrelid
WHERE t.typisdefined AND t.typtype <> 'm' AND (t.typrelid = 0 OR k.relkind = 'c')
  AND NOT EXISTS (SELECT FROM pg_type e WHERE e.typarray = t.oid)
  AND {user_object()} AND {free_of_extensions("pg_type", "t.oid")}
"""

STRUCTURE: Final = (
    SCHEMAS,
    RELATIONS,
    ROW_SECURITY,
    COLUMNS,
    CONSTRAINTS,
    INDEXES,
    SEQUENCES,
    FUNCTIONS,
    TRIGGERS,
    RULES,
    POLICIES,
    TYPES,
)
