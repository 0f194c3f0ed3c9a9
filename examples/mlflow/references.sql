-- Every reference from MLflow's database to an object: object_key, sha256, size_bytes, tenant, source.
--
-- MLflow keeps a place for each run's files and no list of them. Two kinds of row name a single file: the digests that
-- this deployment's jobs tag their uploads with (sha256/PATH; see fill.py and transaction.toml), and MLflow's own list of
-- logged tables. A file that no row names counts as an orphan: tag what matters. An experiment is a tenant: the first
-- part of every key is its number. Tables are named with their schema: the suite reads with an empty search path.
SELECT location.prefix || substr(t.key, length('sha256/') + 1) AS object_key,
       t.value AS sha256, NULL::bigint AS size_bytes, r.experiment_id::text AS tenant, 'tags of ' || r.run_uuid AS source
FROM public.tags AS t
JOIN public.runs AS r USING (run_uuid)
CROSS JOIN LATERAL (SELECT regexp_replace(r.artifact_uri, '^mlflow-artifacts:/+', '') || '/') AS location(prefix)
WHERE t.key LIKE 'sha256/%'
UNION ALL
SELECT location.prefix || (logged ->> 'path'), NULL, NULL, r.experiment_id::text, 'tables of ' || r.run_uuid
FROM public.tags AS t
JOIN public.runs AS r USING (run_uuid)
CROSS JOIN LATERAL (SELECT regexp_replace(r.artifact_uri, '^mlflow-artifacts:/+', '') || '/') AS location(prefix)
CROSS JOIN LATERAL jsonb_array_elements(t.value::jsonb) AS logged
WHERE t.key = 'mlflow.loggedArtifacts'
