{{/* A key that moved fails with the name of what replaces it (files/moved-keys.yaml). */}}
{{- define "ledgerq.refuseMovedKeys" -}}
{{- range $key, $now := .Files.Get "files/moved-keys.yaml" | fromYaml -}}
{{- if hasKey $.Values $key -}}
{{- fail (printf "%s: not a key of this chart. Use %s." $key $now) -}}
{{- end -}}
{{- end -}}
{{- end -}}
