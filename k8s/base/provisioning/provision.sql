-- For a service a database and two roles: <service>_owner migrates, <service> reads and writes rows and nothing
-- else. No role can connect to another service's database. Run again, it sets the passwords anew.
\set service_password `cat /var/run/provisioning/:service-db/password`
\set owner_password `cat /var/run/provisioning/:service-db-owner/password`

SELECT format('CREATE ROLE %I', role)
  FROM unnest(ARRAY[:'service', :'owner']) AS role
  WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = role) \gexec
-- For an administrator who is no superuser, as those of managed databases are.
GRANT :"owner" TO CURRENT_USER;
SELECT format('CREATE DATABASE %I OWNER %I', :'service', :'owner')
  WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = :'service') \gexec
REVOKE ALL ON DATABASE :"service" FROM PUBLIC;
GRANT CONNECT ON DATABASE :"service" TO :"service";
ALTER ROLE :"service" LOGIN PASSWORD :'service_password';

\connect :service
SET ROLE :"owner";
REVOKE ALL ON SCHEMA public FROM PUBLIC;
GRANT USAGE ON SCHEMA public TO :"service";
ALTER DEFAULT PRIVILEGES FOR ROLE :"owner" IN SCHEMA public
  GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO :"service";
ALTER DEFAULT PRIVILEGES FOR ROLE :"owner" IN SCHEMA public
  GRANT USAGE, SELECT ON SEQUENCES TO :"service";
RESET ROLE;
-- Last: a migration begins as soon as the owner can log in, and needs the privileges above.
ALTER ROLE :"owner" LOGIN PASSWORD :'owner_password';
