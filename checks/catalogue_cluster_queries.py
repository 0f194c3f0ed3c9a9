"""The questions about who may do what, and about what stands around the schema: roles, grants, settings, extensions.

The rules are those of ``catalogue_queries``. The database's own name never shows: a restore may change it.
"""

from __future__ import annotations

from typing import Final

from checks.catalogue_queries import free_of_extensions, user_object

_ROLE_COLUMNS: Final = """
SELECT 'role' AS kind, quote_ident(rolname) AS identity, rolsuper AS superuser, rolinherit AS inherit,
       rolcreaterole AS create_role, rolcreatedb AS create_database, rolcanlogin AS login,
       rolreplication AS replication, rolbypassrls AS bypass_row_security, rolconnlimit AS connection_limit,
       rolvaliduntil::text AS valid_until"""

ROLES: Final = f"{_ROLE_COLUMNS}, rolpassword AS password FROM pg_authid WHERE rolname !~ '^pg_'"
ROLES_WITHOUT_PASSWORDS: Final = f"{_ROLE_COLUMNS}, 'unreadable' AS password FROM pg_roles WHERE rolname !~ '^pg_'"

# Before 16 a membership had one grantor, and neither INHERIT nor SET.
MEMBERSHIPS: Final = """
SELECT 'membership' AS kind, format('%I is member of %I, granted by %I', m.rolname, r.rolname,
       pg_get_userbyid(a.grantor)) AS identity, a.admin_option AS admin,
       to_jsonb(a) ->> 'inherit_option' AS inherit, to_jsonb(a) ->> 'set_option' AS set
FROM pg_auth_members a JOIN pg_roles r ON r.oid = a.roleid JOIN pg_roles m ON m.oid = a.member
WHERE m.rolname !~ '^pg_'
"""

SETTINGS: Final = """
SELECT 'setting' AS kind, concat_ws(' ', 'role ' || quote_ident(r.rolname),
           CASE WHEN s.setdatabase <> 0 THEN 'in the database' END) || ': ' || split_part(c, '=', 1) AS identity,
       substr(c, strpos(c, '=') + 1) AS value
FROM pg_db_role_setting s LEFT JOIN pg_roles r ON r.oid = s.setrole CROSS JOIN unnest(s.setconfig) c
WHERE s.setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))
"""

_EXPLODED: Final = """
       CASE x.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(x.grantee)) END
       || ' by ' || quote_ident(pg_get_userbyid(x.grantor))"""
_OPTION: Final = "CROSS JOIN LATERAL (SELECT '' AS word UNION ALL SELECT ' with grant option' WHERE x.is_grantable) w"

_DIFFERENCE: Final = f"""
SELECT kind, identity FROM holder CROSS JOIN LATERAL (
    (SELECT 'grant' AS kind, what || ': ' || x.privilege_type || w.word || ' to ' || {_EXPLODED} AS identity
     FROM aclexplode(now) x {_OPTION}
     EXCEPT SELECT 'grant', what || ': ' || x.privilege_type || w.word || ' to ' || {_EXPLODED}
     FROM aclexplode(before) x {_OPTION})
    UNION ALL
    (SELECT 'revocation', what || ': ' || x.privilege_type || w.word || ' to ' || {_EXPLODED}
     FROM aclexplode(before) x {_OPTION}
     EXCEPT SELECT 'revocation', what || ': ' || x.privilege_type || w.word || ' to ' || {_EXPLODED}
     FROM aclexplode(now) x {_OPTION})) difference
"""

GRANTS: Final = f"""
WITH holder(what, acl) AS (
    SELECT format('table %I.%I', n.nspname, c.relname),
           coalesce(c.relacl, acldefault(CASE c.relkind WHEN 'S' THEN 's' ELSE 'r' END::"char", c.relowner))
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND {user_object()} AND {free_of_extensions("pg_class", "c.oid")}
    UNION ALL
    SELECT format('column %I.%I.%I', n.nspname, c.relname, a.attname), a.attacl
    FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE a.attacl IS NOT NULL AND NOT a.attisdropped AND {user_object()} AND {free_of_extensions("pg_class", "c.oid")}
    UNION ALL
    SELECT format('schema %I', n.nspname), coalesce(n.nspacl, acldefault('n', n.nspowner))
    FROM pg_namespace n WHERE {user_object()} AND {free_of_extensions("pg_namespace", "n.oid")}
    UNION ALL
    SELECT format('function %I.%I(%s)', n.nspname, p.proname, pg_get_function_identity_arguments(p.oid)),
           coalesce(p.proacl, acldefault('f', p.proowner))
    FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
    WHERE {user_object()} AND {free_of_extensions("pg_proc", "p.oid")}
    UNION ALL
    SELECT format('type %I.%I', n.nspname, t.typname), coalesce(t.typacl, acldefault('T', t.typowner))
    FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace LEFT JOIN pg_class k ON k.oid = t.typrelid
    WHERE t.typisdefined AND t.typtype <> 'm' AND (t.typrelid = 0 OR k.relkind = 'c') AND {user_object()}
      AND NOT EXISTS (SELECT FROM pg_type e WHERE e.typarray = t.oid) AND {free_of_extensions("pg_type", "t.oid")}
    UNION ALL
    SELECT 'database', coalesce(datacl, acldefault('d', datdba))
    FROM pg_database WHERE datname = current_database()
    UNION ALL
    SELECT format('large object %s', oid), coalesce(lomacl, acldefault('L', lomowner)) FROM pg_largeobject_metadata
    UNION ALL
    SELECT format('foreign data wrapper %I', fdwname), coalesce(fdwacl, acldefault('F', fdwowner))
    FROM pg_foreign_data_wrapper f WHERE {free_of_extensions("pg_foreign_data_wrapper", "f.oid")}
    UNION ALL
    SELECT format('server %I', srvname), coalesce(srvacl, acldefault('S', srvowner)) FROM pg_foreign_server
    UNION ALL
    SELECT format('language %I', lanname), coalesce(lanacl, acldefault('l', lanowner)) FROM pg_language WHERE lanispl
    UNION ALL
    SELECT format('parameter %s', parname), paracl FROM pg_parameter_acl
)
SELECT 'grant' AS kind, holder.what || ': ' || x.privilege_type || w.word || ' to ' || {_EXPLODED} AS identity
FROM holder CROSS JOIN LATERAL aclexplode(holder.acl) x {_OPTION}
"""

# What the server and extensions own: only how their privileges differ from those they were created with.
INITIAL_GRANTS: Final = f"""
WITH holder(what, now, before) AS (
    SELECT 'function ' || p.oid::regprocedure, p.proacl, coalesce(i.initprivs, acldefault('f', p.proowner))
    FROM pg_proc p LEFT JOIN pg_init_privs i
      ON i.classoid = 'pg_proc'::regclass AND i.objoid = p.oid AND i.objsubid = 0
    WHERE p.proacl IS NOT NULL AND p.proacl IS DISTINCT FROM i.initprivs
      AND (p.pronamespace = 'pg_catalog'::regnamespace OR NOT {free_of_extensions("pg_proc", "p.oid")})
    UNION ALL
    SELECT 'table ' || c.oid::regclass, c.relacl,
           coalesce(i.initprivs, acldefault(CASE c.relkind WHEN 'S' THEN 's' ELSE 'r' END::"char", c.relowner))
    FROM pg_class c LEFT JOIN pg_init_privs i
      ON i.classoid = 'pg_class'::regclass AND i.objoid = c.oid AND i.objsubid = 0
    WHERE c.relacl IS NOT NULL AND c.relacl IS DISTINCT FROM i.initprivs
      AND (c.relnamespace IN ('pg_catalog'::regnamespace, 'information_schema'::regnamespace)
           OR NOT {free_of_extensions("pg_class", "c.oid")})
)
{_DIFFERENCE}
"""

# A database-wide entry replaces the built-in default, so what it takes away counts too; one for a schema only adds.
DEFAULT_PRIVILEGES: Final = f"""
WITH holder(what, now, before) AS (
    SELECT format('%s created by %I%s', CASE d.defaclobjtype WHEN 'r' THEN 'tables' WHEN 'S' THEN 'sequences'
               WHEN 'f' THEN 'functions' WHEN 'T' THEN 'types' WHEN 'n' THEN 'schemas' ELSE 'large objects' END,
               pg_get_userbyid(d.defaclrole), ' in ' || quote_ident(n.nspname)), d.defaclacl,
           CASE WHEN d.defaclnamespace = 0 THEN
               acldefault(CASE d.defaclobjtype WHEN 'S' THEN 's' ELSE d.defaclobjtype END::"char", d.defaclrole) END
    FROM pg_default_acl d LEFT JOIN pg_namespace n ON n.oid = d.defaclnamespace
)
{_DIFFERENCE}
"""

# A dump does not carry an extension's owner: it becomes whoever restores.
EXTENSIONS: Final = """
SELECT 'extension' AS kind, quote_ident(extname) AS identity, extversion AS version,
       extnamespace::regnamespace::text AS schema FROM pg_extension
"""

LARGE_OBJECTS: Final = """
SELECT 'large object' AS kind, oid::text AS identity, pg_get_userbyid(lomowner) AS owner FROM pg_largeobject_metadata
"""

# 16384 is FirstNormalObjectId, below which initdb makes the server's own; schema public lies there too.
COMMENTS: Final = """
SELECT kind, i.type || ' ' || i.identity || provider AS identity, said AS text
FROM (SELECT 'comment' AS kind, classoid, objoid, objsubid, '' AS provider, description AS said FROM pg_description
      UNION ALL
      SELECT 'security label', classoid, objoid, objsubid, ' by ' || provider, label FROM pg_seclabel) d
CROSS JOIN LATERAL pg_identify_object(d.classoid, d.objoid, d.objsubid) i
WHERE (d.objoid >= 16384 OR d.classoid IN ('pg_namespace'::regclass, 'pg_largeobject'::regclass))
  AND NOT EXISTS (SELECT FROM pg_depend x WHERE x.classid = d.classoid AND x.objid = d.objoid AND x.deptype = 'e')
UNION ALL
SELECT 'comment', CASE WHEN classoid = 'pg_database'::regclass THEN 'database' ELSE i.type || ' ' || i.identity END,
       description
FROM pg_shdescription d CROSS JOIN LATERAL pg_identify_object(d.classoid, d.objoid, 0) i
WHERE classoid = 'pg_database'::regclass AND objoid = (SELECT oid FROM pg_database WHERE datname = current_database())
   OR classoid <> 'pg_database'::regclass AND objoid >= 16384
"""

# Connection strings and options may hold secrets; whether a subscription runs is for the operator to decide anew.
REPLICATION: Final = """
SELECT 'publication' AS kind, quote_ident(p.pubname) AS identity, pg_get_userbyid(p.pubowner) AS owner,
       concat_ws(' ', p.puballtables, p.pubinsert, p.pubupdate, p.pubdelete, p.pubtruncate, p.pubviaroot,
           (SELECT string_agg(concat_ws(' ', r.prrelid::regclass, pg_get_expr(r.prqual, r.prrelid),
                (SELECT string_agg(a.attname, ',' ORDER BY a.attname) FROM pg_attribute a
                 WHERE a.attrelid = r.prrelid AND a.attnum = ANY (r.prattrs))), '; '
                ORDER BY r.prrelid::regclass::text) FROM pg_publication_rel r WHERE r.prpubid = p.oid),
           (SELECT string_agg(s.pnnspid::regnamespace::text, ', ' ORDER BY s.pnnspid::regnamespace::text)
            FROM pg_publication_namespace s WHERE s.pnpubid = p.oid)) AS definition
FROM pg_publication p
UNION ALL
SELECT 'subscription', quote_ident(subname), pg_get_userbyid(subowner), array_to_string(subpublications, ', ')
FROM pg_subscription WHERE subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())
UNION ALL
SELECT 'foreign server', quote_ident(s.srvname), pg_get_userbyid(s.srvowner), w.fdwname
FROM pg_foreign_server s JOIN pg_foreign_data_wrapper w ON w.oid = s.srvfdw
UNION ALL
SELECT 'user mapping', format('%I on %I', usename, srvname), NULL, NULL FROM pg_user_mappings
"""

DATABASE: Final = """
SELECT 'database' AS kind, 'database' AS identity, pg_get_userbyid(datdba) AS owner,
       pg_encoding_to_char(encoding) AS encoding, datcollate AS collate, datctype AS ctype,
       datlocprovider AS provider, coalesce(to_jsonb(d) ->> 'datlocale', to_jsonb(d) ->> 'daticulocale') AS locale,
       to_jsonb(d) ->> 'daticurules' AS rules, datconnlimit AS connection_limit
FROM pg_database d WHERE datname = current_database()
"""

COLLATIONS: Final = f"""
SELECT 'collation version' AS kind, 'database' AS identity, datcollversion AS recorded,
       pg_database_collation_actual_version(oid) AS actual
FROM pg_database WHERE datname = current_database() AND datcollversion IS NOT NULL
UNION ALL
SELECT 'collation version', oid::regcollation::text, collversion, pg_collation_actual_version(oid)
FROM pg_collation WHERE collversion IS NOT NULL AND oid IN (
    SELECT a.attcollation FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
    JOIN pg_namespace n ON n.oid = c.relnamespace WHERE a.attcollation > 100 AND {user_object()})
"""

OTHERS: Final = f"""
SELECT 'collation' AS kind, format('%I.%I', n.nspname, c.collname) AS identity, pg_get_userbyid(c.collowner) AS owner,
       concat_ws(' ', c.collprovider, c.collisdeterministic, c.collcollate, c.collctype,
                 to_jsonb(c) ->> 'colllocale', to_jsonb(c) ->> 'colliculocale', to_jsonb(c) ->> 'collicurules') AS as
FROM pg_collation c JOIN pg_namespace n ON n.oid = c.collnamespace
WHERE {user_object()} AND {free_of_extensions("pg_collation", "c.oid")}
UNION ALL
SELECT 'statistics', format('%I.%I', n.nspname, s.stxname), pg_get_userbyid(s.stxowner),
       concat_ws(' ', pg_get_statisticsobjdef(s.oid), nullif(s.stxstattarget, -1))
FROM pg_statistic_ext s JOIN pg_namespace n ON n.oid = s.stxnamespace
WHERE {user_object()} AND {free_of_extensions("pg_statistic_ext", "s.oid")}
UNION ALL
SELECT 'operator', o.oid::regoperator::text, pg_get_userbyid(o.oprowner),
       concat_ws(' ', n.nspname, o.oprcode, o.oprrest, o.oprjoin, o.oprcanmerge, o.oprcanhash,
                 nullif(o.oprcom, 0)::regoperator, nullif(o.oprnegate, 0)::regoperator)
FROM pg_operator o JOIN pg_namespace n ON n.oid = o.oprnamespace
WHERE {user_object()} AND o.oprcode <> 0 AND {free_of_extensions("pg_operator", "o.oid")}
UNION ALL
SELECT 'cast', format('%s to %s', format_type(c.castsource, NULL), format_type(c.casttarget, NULL)), NULL,
       concat_ws(' ', nullif(c.castfunc, 0)::regprocedure, c.castcontext, c.castmethod)
FROM pg_cast c WHERE c.oid >= 16384 AND {free_of_extensions("pg_cast", "c.oid")}
UNION ALL
SELECT 'text search configuration', format('%I.%I', n.nspname, t.cfgname), pg_get_userbyid(t.cfgowner),
       (SELECT string_agg(concat_ws(' ', m.maptokentype, m.mapseqno, m.mapdict::regdictionary), ', '
                ORDER BY m.maptokentype, m.mapseqno) FROM pg_ts_config_map m WHERE m.mapcfg = t.oid)
FROM pg_ts_config t JOIN pg_namespace n ON n.oid = t.cfgnamespace
WHERE {user_object()} AND {free_of_extensions("pg_ts_config", "t.oid")}
UNION ALL
SELECT 'text search dictionary', format('%I.%I', n.nspname, t.dictname), pg_get_userbyid(t.dictowner), t.dictinitoption
FROM pg_ts_dict t JOIN pg_namespace n ON n.oid = t.dictnamespace
WHERE {user_object()} AND {free_of_extensions("pg_ts_dict", "t.oid")}
UNION ALL
SELECT 'operator class', format('%I.%I for %s', n.nspname, o.opcname, m.amname), pg_get_userbyid(o.opcowner),
       concat_ws(' ', format_type(o.opcintype, NULL), o.opcdefault)
FROM pg_opclass o JOIN pg_namespace n ON n.oid = o.opcnamespace JOIN pg_am m ON m.oid = o.opcmethod
WHERE {user_object()} AND {free_of_extensions("pg_opclass", "o.oid")}
"""

SURROUNDINGS: Final = (
    MEMBERSHIPS,
    SETTINGS,
    GRANTS,
    INITIAL_GRANTS,
    DEFAULT_PRIVILEGES,
    EXTENSIONS,
    LARGE_OBJECTS,
    COMMENTS,
    REPLICATION,
    DATABASE,
    COLLATIONS,
    OTHERS,
)
