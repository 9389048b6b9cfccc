#!/usr/bin/env bash
# From an empty project to a running suite, from one version to the next, and away again.
#
# What exists is looked up first, so that only what is missing is created and only functions that
# changed are deployed. Triggers, resources and rights come from functions/*/function.toml.
# docs/OPERATING.md explains every step.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

readonly USAGE="usage: ./deploy.sh [destroy] --project PROJECT --region REGION --bucket BUCKET
       [--network velib] [--only FUNCTION] [--settings FILE] [--staged] [--dry-run]

  destroy     remove functions, triggers, schedules, topics and accounts; the data stays
  --only      deploy this function and what it needs
  --settings  NAME=value lines for every function, as in GBFS_URL=https://…
  --staged    deploy the folders below build/ as they are
  --dry-run   print the commands for an empty project and call nothing"

readonly RUNTIME=python311
readonly SOFT_DELETE=7d
readonly MAX_DELIVERY_ATTEMPTS=20
readonly APIS=(
  artifactregistry cloudbuild cloudfunctions cloudresourcemanager cloudscheduler
  eventarc iam logging pubsub run storage
)

action=deploy project="" region="" bucket="" network=velib only="" settings="" staged="" dry_run=""

die() { echo "deploy.sh: $*" >&2; exit 2; }

while (($#)); do
  [[ $1 != --*=* ]] || set -- "${1%%=*}" "${1#*=}" "${@:2}"
  case $1 in
    destroy) action=destroy ;;
    --staged) staged=1 ;;
    --dry-run) dry_run=1 ;;
    --help) echo "$USAGE"; exit ;;
    --project | --region | --bucket | --network | --only | --settings)
      [[ $# -ge 2 && $2 != --* ]] || die "$1 needs a value"
      printf -v "${1#--}" '%s' "$2"
      shift ;;
    *) die "unknown argument: $1
$USAGE" ;;
  esac
  shift
done
[[ -n $project && -n $region && -n $bucket ]] || die "--project, --region and --bucket are needed
$USAGE"

python=${PYTHON:-.venv/bin/python}
command -v "$python" >/dev/null || python=python3
export PYTHONPATH=shared:local

readonly domain="$project.iam.gserviceaccount.com"
readonly invoker="$network-invoker@$domain"
readonly builder="$network-build@$domain"
readonly dead_letter="$network-dead-letter"
readonly deleter="projects/$project/roles/velibObjectDeleter"

# --- how commands are run ------------------------------------------------------------------------

# Change something: print the command instead when it is a dry run.
run() {
  if [[ -n $dry_run ]]; then
    printf 'gcloud'; printf ' %q' "$@" "--project=$project"; printf '\n'
  else
    gcloud "$@" "--project=$project" --quiet
  fi
}

# Whether something is there. In a dry run nothing is.
exists() { [[ -z $dry_run ]] && gcloud "$@" "--project=$project" >/dev/null 2>&1; }

# A value that the cloud knows; in a dry run its name, in capitals.
ask() {
  local placeholder=$1; shift
  if [[ -n $dry_run ]]; then echo "$placeholder"; else gcloud "$@" "--project=$project"; fi
}

# Grant a role. A service account is known everywhere only some seconds after it was made.
grant() {
  local pause
  for pause in 3 6 12 24; do
    if run "$@" >&3; then return; fi
    sleep "$pause"
  done
  run "$@" >&3
}

say() { echo "== $*" >&2; }

# --- the plan ------------------------------------------------------------------------------------

# The facts of one kind, without the kind: see velib_deploy/function_specs.py.
facts() { awk -F '\t' -v OFS='\t' -v kind="$1" '$1 == kind { $1 = ""; print substr($0, 2) }' <<<"$plan"; }

read_plan() {
  local arguments=(--network "$network" --bucket "$bucket" --project "$project")
  [[ -z $only ]] || arguments+=(--only "$only")
  [[ -z $settings ]] || arguments+=(--settings "$settings")
  plan=$("$python" -m velib_deploy.function_specs "${arguments[@]}")
}

service() { echo "$network-${1//_/-}"; }

# --- what every function shares ------------------------------------------------------------------

enable_apis() {
  say "APIs"
  run services enable "${APIS[@]/%/.googleapis.com}"
}

ensure_bucket() {
  say "bucket gs://$bucket"
  local bucket_flags=(
    --uniform-bucket-level-access --public-access-prevention
    "--soft-delete-duration=$SOFT_DELETE" --lifecycle-file=build/lifecycle.json
  )
  if [[ -z $dry_run ]]; then
    mkdir -p build
    lifecycle >build/lifecycle.json
  fi
  exists storage buckets describe "gs://$bucket" \
    || run storage buckets create "gs://$bucket" "--location=$region" \
      --uniform-bucket-level-access --public-access-prevention
  run storage buckets update "gs://$bucket" "${bucket_flags[@]}"
}

# What expires by age is contained in something else by then.
lifecycle() {
  local prefix days
  echo '{"rule": ['
  while IFS=$'\t' read -r prefix days; do
    printf '  {"action": {"type": "Delete"}, "condition": {"age": %d, "matchesPrefix": ["%s"]}},\n' \
      "$days" "$prefix"
  done < <(facts expire)
  echo '  {"action": {"type": "AbortIncompleteMultipartUpload"}, "condition": {"age": 7}}'
  echo ']}'
}

ensure_topics() {
  say "topics"
  local topic
  for topic in $(facts topic) dead-letter; do
    exists pubsub topics describe "$network-$topic" || run pubsub topics create "$network-$topic"
  done
  exists pubsub subscriptions describe "$dead_letter" \
    || run pubsub subscriptions create "$dead_letter" "--topic=$dead_letter" \
      --expiration-period=never --message-retention-duration=7d
}

# Prints the notifications of our topics: topic, tab, id. (Topic names are full.)
notifications() {
  ask "" storage buckets notifications list "gs://$bucket" \
    '--format=value("Notification Configuration".topic,"Notification Configuration".id)'
}

# Creating a notification also lets the storage service publish on its topic.
ensure_notifications() {
  say "bucket notifications"
  local known topic prefix
  known=$(notifications)
  while IFS=$'\t' read -r topic prefix; do
    grep -q "/topics/$network-$topic"$'\t' <<<"$known" \
      || run storage buckets notifications create "gs://$bucket" "--topic=$network-$topic" \
        "--object-prefix=$prefix" --event-types=OBJECT_FINALIZE --payload-format=json
  done < <(facts notify)
}

ensure_account() {
  exists iam service-accounts describe "$1@$domain" \
    || run iam service-accounts create "$1" "--display-name=$2"
}

ensure_shared_accounts() {
  say "accounts that build, invoke and deliver"
  ensure_account "$network-invoker" "Delivers events to functions"
  ensure_account "$network-build" "Builds functions"
  grant projects add-iam-policy-binding "$project" "--member=serviceAccount:$builder" \
    --role=roles/cloudbuild.builds.builder --condition=None
  exists iam roles describe velibObjectDeleter \
    || run iam roles create velibObjectDeleter "--title=Object deleter" \
      --permissions=storage.objects.delete
  local number
  number=$(ask PROJECT_NUMBER projects describe "$project" '--format=value(projectNumber)')
  delivery="serviceAccount:service-$number@gcp-sa-pubsub.iam.gserviceaccount.com"
  grant pubsub topics add-iam-policy-binding "$dead_letter" "--member=$delivery" \
    --role=roles/pubsub.publisher
}

# --- one function --------------------------------------------------------------------------------

# Names of objects are listed in the whole bucket (a listing has no object for a condition to
# look at); their contents are read and written only where its function.toml says so.
ensure_access() {
  local name=$1 account=$2 member="serviceAccount:$2@$domain" function kind condition topic role
  ensure_account "$account" "velib function $name"
  grant storage buckets add-iam-policy-binding "gs://$bucket" "--member=$member" \
    --role=roles/storage.legacyBucketReader
  while IFS=$'\t' read -r function _ kind condition; do
    [[ $function == "$name" ]] || continue
    case $kind in
      read) role=roles/storage.objectViewer ;;
      create) role=roles/storage.objectCreator ;;
      delete) role=$deleter ;;
    esac
    grant storage buckets add-iam-policy-binding "gs://$bucket" "--member=$member" \
      "--role=$role" "--condition=expression=$condition,title=$account-$kind"
  done < <(facts objects)
  while IFS=$'\t' read -r function _ topic; do
    [[ $function == "$name" ]] || continue
    grant pubsub topics add-iam-policy-binding "$network-$topic" "--member=$member" \
      --role=roles/pubsub.publisher
  done < <(facts publish)
}

# Everything that makes a deployed function what it is: its files and its settings.
digest() {
  local folder=$1; shift
  {
    (cd "$folder" && find . -type f | LC_ALL=C sort | xargs sha256sum)
    printf '%s\n' "$@"
  } | sha256sum | cut -c1-40
}

deploy_function() {
  local name=$1 entry=$2 memory=$3 cpu=$4 timeout=$5 concurrency=$6 instances=$7 retry=$8
  local account=$9 topics=${10} env=${11} target deployed wanted=digest
  target=$(service "$name")
  local arguments=(
    --gen2 "--region=$region" "--runtime=$RUNTIME" "--source=build/$name" "--entry-point=$entry"
    "--memory=$memory" "--cpu=$cpu" "--timeout=${timeout}s" "--concurrency=$concurrency"
    "--max-instances=$instances" "--trigger-topic=$network-${topics%%,*}"
    "--service-account=$account@$domain" "--trigger-service-account=$invoker"
    "--build-service-account=projects/$project/serviceAccounts/$builder"
    --no-allow-unauthenticated --ingress-settings=internal-only "--set-env-vars=^|^$env"
  )
  ((retry)) && arguments+=(--retry)
  if [[ -z $dry_run ]]; then
    wanted=$(digest "build/$name" "${arguments[@]}")
    deployed=$(gcloud functions describe "$target" "--region=$region" "--project=$project" \
      '--format=value(labels.velib_digest)' 2>/dev/null || true)
    [[ $deployed != "$wanted" ]] || { say "$target is up to date"; return; }
  fi
  run functions deploy "$target" "${arguments[@]}" "--update-labels=velib_digest=$wanted"
}

# A function is deployed with its first topic; each further one gets a trigger of its own.
ensure_triggers() {
  local name=$1 topics=$2 target topic trigger first
  target=$(service "$name")
  grant run services add-iam-policy-binding "$target" "--region=$region" \
    "--member=serviceAccount:$invoker" --role=roles/run.invoker
  first=$(ask "$target-FIRST_TRIGGER" functions describe "$target" "--region=$region" \
    '--format=value(eventTrigger.trigger.basename())')
  limit_retries "$first"
  for topic in $(tail -n +2 <<<"${topics//,/$'\n'}"); do
    trigger="$target-$topic"
    exists eventarc triggers describe "$trigger" "--location=$region" \
      || run eventarc triggers create "$trigger" "--location=$region" \
        "--destination-run-service=$target" "--destination-run-region=$region" \
        --event-filters=type=google.cloud.pubsub.topic.v1.messagePublished \
        "--transport-topic=projects/$project/topics/$network-$topic" "--service-account=$invoker"
    limit_retries "$trigger"
  done
}

# What fails again and again is set aside on the dead-letter topic, not retried for ever.
limit_retries() {
  local subscription
  subscription=$(ask "$1-SUBSCRIPTION" eventarc triggers describe "$1" "--location=$region" \
    '--format=value(transport.pubsub.subscription.basename())')
  grant pubsub subscriptions add-iam-policy-binding "$subscription" "--member=$delivery" \
    --role=roles/pubsub.subscriber
  run pubsub subscriptions update "$subscription" "--dead-letter-topic=$dead_letter" \
    "--max-delivery-attempts=$MAX_DELIVERY_ATTEMPTS" --ack-deadline=600 \
    --min-retry-delay=10s --max-retry-delay=600s
}

ensure_schedule() {
  local name=$1 topic=$2 cron=$3 message=$4 verb=create
  exists scheduler jobs describe "$(service "$name")" "--location=$region" && verb=update
  run scheduler jobs "$verb" pubsub "$(service "$name")" "--location=$region" "--schedule=$cron" \
    --time-zone=Etc/UTC "--topic=projects/$project/topics/$network-$topic" "--message-body=$message"
}

# --- all of it -----------------------------------------------------------------------------------

deploy() {
  local name entry memory cpu timeout concurrency instances retry account topics env
  if [[ -z $staged && -z $dry_run ]]; then
    say "staging"
    "$python" -m velib_deploy.staging --out build ${only:+--only "$only"} >&2
  fi
  enable_apis
  ensure_bucket
  ensure_topics
  ensure_notifications
  ensure_shared_accounts
  while IFS=$'\t' read -r -u 4 name entry memory cpu timeout concurrency instances retry \
    account topics env; do
    say "function $name"
    ensure_access "$name" "$account"
    deploy_function "$name" "$entry" "$memory" "$cpu" "$timeout" "$concurrency" "$instances" \
      "$retry" "$account" "$topics" "$env"
    ensure_triggers "$name" "$topics"
  done 4< <(facts function)
  say "schedules"
  while IFS=$'\t' read -r -u 4 name topic cron message; do
    ensure_schedule "$name" "$topic" "$cron" "$message"
  done 4< <(facts schedule)
}

# Remove something if it is there. In a dry run everything is.
remove() {
  local -a target=("$@")
  local describe=("${target[@]/#delete/describe}")
  if [[ -n $dry_run ]] || exists "${describe[@]}"; then run "${target[@]}"; fi
}

# First what makes events, then what handles them. Objects and dead letters are kept.
destroy() {
  local name topic account id rest known
  for name in $(facts schedule | cut -f1); do
    remove scheduler jobs delete "$(service "$name")" "--location=$region"
  done
  known=$(notifications)
  while IFS=$'\t' read -r -u 4 topic rest; do
    id=$(awk -F '\t' -v topic="/topics/$network-$topic" 'index($1 "\n", topic "\n") { print $2 }' <<<"$known")
    [[ -z $id ]] || run storage buckets notifications delete \
      "projects/_/buckets/$bucket/notificationConfigs/$id"
  done 4< <(facts notify)
  while IFS=$'\t' read -r -u 4 name rest; do
    for topic in $(cut -f9 <<<"$rest" | tr ',' '\n' | tail -n +2); do
      remove eventarc triggers delete "$(service "$name")-$topic" "--location=$region"
    done
    remove functions delete "$(service "$name")" "--region=$region"
  done 4< <(facts function)
  [[ -z $only ]] || return 0
  for topic in $(facts topic); do remove pubsub topics delete "$network-$topic"; done
  for account in $(facts function | cut -f9) "$network-invoker" "$network-build"; do
    remove iam service-accounts delete "$account@$domain"
  done
}

exec 3>&1
[[ -n $dry_run ]] || exec 3>/dev/null # a granted role prints the whole policy
read_plan
"$action"
say "done"
