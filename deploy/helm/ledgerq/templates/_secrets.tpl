{{- define "ledgerq.configData" -}}
{{- range $name, $value := .Values.config }}
{{ $name }}: {{ $value | toString | quote }}
{{- end }}
{{- end -}}

{{/* URLs that are values themselves: the chart's Secret holds them, and a copy of it for the hook Job. */}}
{{- define "ledgerq.urlData" -}}
{{- if and .Values.database.url (not .Values.database.existingSecret) }}
database-url: {{ .Values.database.url | quote }}
{{- end }}
{{- with .Values.database.replica }}
{{- if and .url (not .existingSecret) }}
database-replica-url: {{ .url | quote }}
{{- end }}
{{- end }}
{{- if and .Values.redis.url (not .Values.redis.existingSecret) }}
redis-url: {{ .Values.redis.url | quote }}
{{- end }}
{{- end -}}

{{/*
What the chart's own Secret holds: only what no Secret of the user's was named for. What was made once is found again in
the cluster; a rendering without a cluster (`helm template`, Argo CD) makes it anew each time and needs existing Secrets.
URLs name the namespace, because KEDA reads them elsewhere.
*/}}
{{- define "ledgerq.secretData" -}}
{{- $found := lookup "v1" "Secret" .Release.Namespace (include "ledgerq.name" (list . "secrets")) }}
{{- $there := dict }}
{{- if $found }}{{ $there = default dict $found.data }}{{ end }}
{{- include "ledgerq.urlData" . }}
{{- if .Values.embedded.postgresql.enabled }}
{{- $password := include "ledgerq.made" (list $there "postgresql-password" 32) }}
postgresql-password: {{ $password | quote }}
database-url: {{ printf "postgresql://ledgerq:%s@%s.%s.svc:5432/ledgerq" $password (include "ledgerq.storeName" (list . "postgresql")) .Release.Namespace | quote }}
{{- end }}
{{- if .Values.embedded.redis.enabled }}
{{- $password := include "ledgerq.made" (list $there "redis-password" 32) }}
redis-password: {{ $password | quote }}
redis-url: {{ printf "redis://:%s@%s.%s.svc:6379/0" $password (include "ledgerq.storeName" (list . "redis")) .Release.Namespace | quote }}
{{- end }}
{{- range $name, $own := .Values.apiKeys }}
{{- if not (or $own.existingSecret $.Values.api.allowAnonymous) }}
{{- $key := printf "%s-key" $name }}
{{ $key }}: {{ include "ledgerq.made" (list $there $key 43) | quote }} # 43 letters and digits have 256 bits
{{- end }}
{{- end }}
{{- end -}}

{{/* (list data "key" length) */}}
{{- define "ledgerq.made" -}}
{{- $there := index . 0 -}}
{{- if hasKey $there (index . 1) }}{{ get $there (index . 1) | b64dec }}{{ else }}{{ randAlphaNum (index . 2) }}{{ end -}}
{{- end -}}
