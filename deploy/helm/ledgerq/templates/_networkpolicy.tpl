{{/*
The least edges of a component, and nothing else.

root, component, pool   whose it is
from, port              who may reach which of its ports (port empty: nobody reaches it)
stores                  which stores it asks: database, redis
further                 further rules for what it may reach
*/}}
{{- define "ledgerq.networkPolicy" -}}
{{- $policy := .root.Values.networkPolicy -}}
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: {{ include "ledgerq.name" (list .root .component) }}
  labels:
    {{- include "ledgerq.labels" . | nindent 4 }}
spec:
  podSelector:
    matchLabels:
      {{- include "ledgerq.selector" . | nindent 6 }}
  policyTypes: [Ingress, Egress]
  {{- if .port }}
  ingress:
    - ports:
        - port: {{ .port }}
      {{- with .from }}
      from:
        {{- toYaml . | nindent 8 }}
      {{- end }}
  {{- else }}
  ingress: []
  {{- end }}
  egress:
    - ports:
        - {port: 53, protocol: UDP}
        - {port: 53, protocol: TCP}
    {{- range .stores }}
    {{- $embedded := get $.root.Values.embedded (eq . "database" | ternary "postgresql" "redis") }}
    - ports:
        - port: {{ $embedded.enabled | ternary (eq . "database" | ternary 5432 6379) (get $policy (printf "%sPort" .)) }}
        {{- if and (eq . "redis") (not $embedded.enabled) $policy.sentinelPort }}
        - port: {{ $policy.sentinelPort }}
        {{- end }}
      {{- if $embedded.enabled }}
      to:
        - podSelector:
            matchLabels:
              {{- include "ledgerq.selector" (dict "root" $.root "component" (eq . "database" | ternary "postgresql" "redis")) | nindent 14 }}
      {{- else }}
      {{- with get $policy (printf "%sTo" .) }}
      to:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- end }}
    {{- end }}
    {{- range concat (default list .further) $policy.extraEgress }}
    - {{ toYaml . | nindent 6 | trim }}
    {{- end }}
{{- end -}}
