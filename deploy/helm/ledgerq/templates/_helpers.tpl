{{/* Names. What follows the release's part must survive the limit of 63 characters. */}}
{{- define "ledgerq.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name -}}
{{- end -}}
{{- end -}}

{{/* (list $ "suffix") */}}
{{- define "ledgerq.name" -}}
{{- $root := index . 0 -}}
{{- $suffix := index . 1 -}}
{{- printf "%s-%s" (include "ledgerq.fullname" $root | trunc (int (sub 62 (len $suffix))) | trimSuffix "-") $suffix -}}
{{- end -}}

{{/* (list $ "suffix"), for a StatefulSet: at most 52 characters. */}}
{{- define "ledgerq.storeName" -}}
{{- $root := index . 0 -}}
{{- $suffix := index . 1 -}}
{{- printf "%s-%s" (include "ledgerq.fullname" $root | trunc (int (sub 51 (len $suffix))) | trimSuffix "-") $suffix -}}
{{- end -}}

{{- define "ledgerq.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "ledgerq.fullname" . | trunc 63 | trimSuffix "-") .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{/* What selects pods. It must never change: a Deployment's selector cannot be updated. (dict root component pool?) */}}
{{- define "ledgerq.selector" -}}
app.kubernetes.io/name: {{ default .root.Chart.Name .root.Values.nameOverride }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- with .pool }}
ledgerq/pool: {{ . }}
{{- end }}
{{- end -}}

{{- define "ledgerq.labels" -}}
{{ include "ledgerq.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/part-of: ledgerq
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" | trunc 63 }}
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/*
Lays one map over another, in place. Sprig's mergeOverwrite passes over false, 0 and "" in what is laid on top, so that a
pool could not say `replicas: 0`. (dict under over)
*/}}
{{- define "ledgerq.overlay" -}}
{{- range $key, $value := .over -}}
{{- $below := get $.under $key -}}
{{- if and (kindIs "map" $value) (kindIs "map" $below) -}}
{{- include "ledgerq.overlay" (dict "under" $below "over" $value) -}}
{{- else -}}
{{- $_ := set $.under $key (kindIs "map" $value | ternary (deepCopy (kindIs "map" $value | ternary $value dict)) $value) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* The settings of a component: podDefaults, and over them each map of the list, into `.into`. (dict root into layers) */}}
{{- define "ledgerq.settle" -}}
{{- include "ledgerq.overlay" (dict "under" .into "over" .root.Values.podDefaults) -}}
{{- range .layers -}}
{{- include "ledgerq.overlay" (dict "under" $.into "over" .) -}}
{{- end -}}
{{- end -}}

{{/* One worker pool: podDefaults, worker, the pool. (dict root into pool) */}}
{{- define "ledgerq.settlePool" -}}
{{- include "ledgerq.settle" (dict "root" .root "into" .into "layers" (list (omit .root.Values.worker "pools") (default dict .pool))) -}}
{{- $seconds := add .into.taskSeconds .into.drainSeconds -}}
{{- if kindIs "invalid" .into.terminationGracePeriodSeconds -}}
{{- $_ := set .into "terminationGracePeriodSeconds" $seconds -}}
{{- end -}}
{{- end -}}

{{/* (dict root image fallback?) */}}
{{- define "ledgerq.image" -}}
{{- $image := dict -}}
{{- include "ledgerq.overlay" (dict "under" $image "over" (default dict .fallback)) -}}
{{- include "ledgerq.overlay" (dict "under" $image "over" (default dict .image)) -}}
{{- $global := .root.Values.image -}}
{{- $registry := empty $global.registry | ternary "" (printf "%s/" (trimSuffix "/" $global.registry)) -}}
{{- if $image.digest -}}
{{- printf "%s%s@%s" $registry $image.repository $image.digest -}}
{{- else -}}
{{- printf "%s%s:%s" $registry $image.repository (coalesce $image.tag $global.tag .root.Chart.AppVersion) -}}
{{- end -}}
{{- end -}}

{{/* The Secret that has a URL or key, and its key: the one named, or the chart's own. (dict root own key) */}}
{{- define "ledgerq.secretKeyRef" -}}
name: {{ default (default (include "ledgerq.name" (list .root "secrets")) .chartSecret) .own.existingSecret }}
key: {{ empty .own.existingSecret | ternary .key .own.key }}
{{- end -}}

{{/* Environment of whoever uses the stores. (dict root chartSecret?) */}}
{{- define "ledgerq.storesEnv" -}}
- name: DATABASE_URL
  valueFrom:
    secretKeyRef:
      {{- include "ledgerq.secretKeyRef" (dict "root" .root "own" .root.Values.database "key" "database-url" "chartSecret" .chartSecret) | nindent 6 }}
- name: REDIS_URL
  valueFrom:
    secretKeyRef:
      {{- include "ledgerq.secretKeyRef" (dict "root" .root "own" .root.Values.redis "key" "redis-url" "chartSecret" .chartSecret) | nindent 6 }}
{{- end -}}

{{/* Environment of whoever may also read from a replica, after that of the stores. (root) */}}
{{- define "ledgerq.readersEnv" -}}
{{- include "ledgerq.storesEnv" (dict "root" .) }}
{{- with .Values.database.replica }}
{{- if or .existingSecret .url }}
- name: DATABASE_REPLICA_URL
  valueFrom:
    secretKeyRef:
      {{- include "ledgerq.secretKeyRef" (dict "root" $ "own" . "key" "database-replica-url") | nindent 6 }}
{{- end }}
{{- end }}
{{- end -}}

{{/* Which tasks a worker, or what stands in for one, knows. */}}
{{- define "ledgerq.tasksEnv" -}}
{{- with .taskModules }}
- name: LEDGERQ_TASK_MODULES
  value: {{ . | quote }}
{{- end }}
{{- with .celeryApp }}
- name: LEDGERQ_CELERY_APP
  value: {{ . | quote }}
{{- end }}
{{- end -}}

{{- define "ledgerq.metricsEnv" -}}
{{- if .Values.metrics.enabled }}
- name: LEDGERQ_METRICS_HOST
  value: {{ .Values.network.listen | quote }}
- name: LEDGERQ_METRICS_PORT
  value: "9100"
{{- end }}
{{- end -}}

{{/*
The liveness of processes without a port: they touch a file about once a second while they work. The probe looks at its
age and asks nobody: neither Python nor the broker (`celery inspect ping` would do both, each period).
*/}}
{{- define "ledgerq.heartbeatProbe" -}}
exec:
  command:
    - sh
    - -c
    - test $(($(date +%s) - $(stat -c %Y "$LEDGERQ_HEARTBEAT_FILE"))) -lt 30
{{- end -}}

{{- define "ledgerq.heartbeatEnv" -}}
- name: LEDGERQ_HEARTBEAT_FILE
  value: /tmp/heartbeat
{{- end -}}

{{/* Whether the Job is a hook: not with the embedded database, which does not exist before the release does. */}}
{{- define "ledgerq.migratesByHook" -}}
{{- if and .Values.migrate.useHelmHooks (not .Values.embedded.postgresql.enabled) (not .Values.embedded.redis.enabled) -}}true{{- end -}}
{{- end -}}
