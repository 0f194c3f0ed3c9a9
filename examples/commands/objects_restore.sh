#!/bin/sh
# Puts back what the bucket lacks; what it has stays as it is.
set -eu

# A remote that is defined by its environment; the keys are taken from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.
export RCLONE_CONFIG_STORE_TYPE=s3 RCLONE_CONFIG_STORE_PROVIDER=Other RCLONE_CONFIG_STORE_ENV_AUTH=true
export RCLONE_CONFIG_STORE_ENDPOINT="$DRILL_S3_ENDPOINT" RCLONE_CONFIG_STORE_REGION="$AWS_REGION"
export RCLONE_CONFIG_STORE_FORCE_PATH_STYLE=true RCLONE_CONFIG_STORE_NO_CHECK_BUCKET=true

"$DRILL_RCLONE" copy --config= --fast-list --metadata --ignore-existing "$DRILL_BACKUP" "store:$DRILL_S3_BUCKET"
