#!/usr/bin/env bash
# Run once by PostgreSQL's image on an empty volume: a database for Dagster and one for MLflow, each with an owner that
# cannot see into the other.
set -euo pipefail

for name in dagster mlflow; do
  variable="${name^^}_DB_PASSWORD"
  psql --quiet --no-psqlrc -v ON_ERROR_STOP=1 -v name="$name" -v password="${!variable:?}" \
    --username "${POSTGRES_USER:-postgres}" --dbname postgres <<'SQL'
CREATE ROLE :"name" LOGIN PASSWORD :'password';
CREATE DATABASE :"name" OWNER :"name" ENCODING 'UTF8' TEMPLATE template0;
REVOKE ALL ON DATABASE :"name" FROM PUBLIC;
SQL
done
