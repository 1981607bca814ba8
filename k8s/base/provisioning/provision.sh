#!/bin/sh
set -eu

until psql --command='REVOKE ALL ON DATABASE postgres, template1 FROM PUBLIC'; do
  sleep 1
done
for service in orders tracking inventory notifications users catalog payments dashboard; do
  psql --no-psqlrc --quiet --set=ON_ERROR_STOP=1 --set=service="$service" \
    --set=owner="${service}_owner" --file=/etc/waybill/provision.sql
done
