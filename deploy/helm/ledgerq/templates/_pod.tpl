{{/*
A Deployment, the same for every component.

root, component, pool   whose it is (pool: workers only)
settings                podDefaults with the component's own laid over them
image, command, ports, env, lifecycle   the container's (YAML text, but for image)
inits, volumes          further init containers and volumes (YAML text)
live, ready             handlers of the probes (YAML text); startup asks what live asks
isScaled                whether another controller owns the number of pods
waits                   whether an init container waits for migrations
*/}}
{{- define "ledgerq.deployment" -}}
{{- $suffix := .component -}}
{{- if .pool }}{{ $suffix = printf "%s-%s" .component .pool }}{{ end -}}
{{- $who := dict "root" .root "component" .component "pool" .pool -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ include "ledgerq.name" (list .root $suffix) }}
  labels:
    {{- include "ledgerq.labels" $who | nindent 4 }}
  {{- with .settings.annotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  {{- if not .isScaled }}
  replicas: {{ .settings.replicas }}
  {{- end }}
  {{- with .settings.strategy }}
  strategy:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  selector:
    matchLabels:
      {{- include "ledgerq.selector" $who | nindent 6 }}
  template:
    metadata:
      labels:
        {{- include "ledgerq.labels" $who | nindent 8 }}
        {{- with .settings.podLabels }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      annotations:
        # Pods read these only when they start: a change must replace them.
        checksum/config: {{ .root.Values.config | toJson | sha256sum }}
        checksum/urls: {{ list .root.Values.database.url .root.Values.database.replica.url .root.Values.redis.url | toJson | sha256sum }}
        {{- with .settings.podAnnotations }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
    spec:
      {{- include "ledgerq.podSpec" . | nindent 6 }}
      terminationGracePeriodSeconds: {{ .settings.terminationGracePeriodSeconds }}
      {{- with .settings.topologySpreadConstraints }}
      topologySpreadConstraints:
        {{- range . }}
        {{- $own := dict "labelSelector" (dict "matchLabels" (include "ledgerq.selector" $who | fromYaml)) }}
        - {{ toYaml (hasKey . "labelSelector" | ternary . (merge (deepCopy .) $own)) | nindent 10 | trim }}
        {{- end }}
      {{- end }}
      {{- if .waits }}
      initContainers:
        - name: wait-for-migrations
          image: {{ .image }}
          imagePullPolicy: {{ .root.Values.image.pullPolicy }}
          command: [ledgerq-migrate, wait, --timeout, {{ .root.Values.migrate.waitSeconds | quote }}]
          {{- with .settings.securityContext }}
          securityContext:
            {{- toYaml . | nindent 12 }}
          {{- end }}
          {{- with .settings.resources }}
          resources:
            {{- toYaml . | nindent 12 }}
          {{- end }}
          env:
            {{- include "ledgerq.mergedEnv" (dict "chart" (include "ledgerq.storesEnv" (dict "root" .root)) "extra" .settings.extraEnv) | nindent 12 }}
          {{- include "ledgerq.envFromAndMounts" . | nindent 10 }}
        {{- with .inits }}
        {{- . | nindent 8 }}
        {{- end }}
      {{- end }}
      containers:
        - name: {{ .component }}
          image: {{ .image }}
          imagePullPolicy: {{ .root.Values.image.pullPolicy }}
          command: {{ .command | toJson }}
          {{- with .ports }}
          ports:
            {{- . | nindent 12 }}
          {{- end }}
          env:
            {{- include "ledgerq.mergedEnv" (dict "chart" .env "extra" .settings.extraEnv) | nindent 12 }}
          {{- include "ledgerq.envFromAndMounts" . | nindent 10 }}
          {{- with .live }}
          startupProbe:
            {{- include "ledgerq.probe" (dict "handler" . "times" $.settings.startupProbe) | nindent 12 }}
          livenessProbe:
            {{- include "ledgerq.probe" (dict "handler" . "times" $.settings.livenessProbe) | nindent 12 }}
          {{- end }}
          {{- with .ready }}
          readinessProbe:
            {{- include "ledgerq.probe" (dict "handler" . "times" $.settings.readinessProbe) | nindent 12 }}
          {{- end }}
          {{- with .lifecycle }}
          lifecycle:
            {{- . | nindent 12 }}
          {{- end }}
          {{- with .settings.resources }}
          resources:
            {{- toYaml . | nindent 12 }}
          {{- end }}
          {{- with .settings.securityContext }}
          securityContext:
            {{- toYaml . | nindent 12 }}
          {{- end }}
{{- end -}}

{{/* What Deployments and the migration Job have in common. (root, settings, serviceAccountName?) */}}
{{- define "ledgerq.podSpec" -}}
serviceAccountName: {{ default (include "ledgerq.serviceAccountName" .root) .serviceAccountName }}
automountServiceAccountToken: false
# Service links would set LEDGERQ_API_PORT and the like to tcp://… in every pod: the services' own settings.
enableServiceLinks: false
{{- with .root.Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- with .settings.podSecurityContext }}
securityContext:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .settings.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .settings.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .settings.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .settings.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
volumes:
  - name: tmp
    emptyDir: {}
  {{- with .volumes }}
  {{- . | nindent 2 }}
  {{- end }}
  {{- with .settings.extraVolumes }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}

{{/* (root, settings, configMap?) */}}
{{- define "ledgerq.envFromAndMounts" -}}
envFrom:
  - configMapRef:
      name: {{ default (include "ledgerq.name" (list .root "config")) .configMap }}
  {{- with .settings.extraEnvFrom }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
volumeMounts:
  - name: tmp
    mountPath: /tmp
  {{- with .settings.extraVolumeMounts }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}

{{/* What the user names twice counts as the user says. (dict chart extra) */}}
{{- define "ledgerq.mergedEnv" -}}
{{- $named := dict -}}
{{- range .extra }}{{ $_ := set $named .name true }}{{ end -}}
{{- $all := list -}}
{{- range fromYamlArray .chart }}{{ if not (hasKey $named .name) }}{{ $all = append $all . }}{{ end }}{{ end -}}
{{- range .extra }}{{ $all = append $all . }}{{ end -}}
{{- toYaml $all -}}
{{- end -}}

{{/* (dict handler times): the times, and the handler unless they bring one of their own. */}}
{{- define "ledgerq.probe" -}}
{{- if not (or (hasKey .times "exec") (hasKey .times "httpGet") (hasKey .times "tcpSocket") (hasKey .times "grpc")) }}
{{- .handler }}
{{ end }}
{{- toYaml .times }}
{{- end -}}

{{/* (dict root component pool? settings) */}}
{{- define "ledgerq.pdb" -}}
{{- $budget := dict -}}
{{- range $key, $value := .settings.podDisruptionBudget -}}
{{- if not (kindIs "invalid" $value) }}{{ $_ := set $budget $key $value }}{{ end -}}
{{- end -}}
{{- if hasKey $budget "minAvailable" }}{{ $budget = omit $budget "maxUnavailable" }}{{ end -}}
{{- if and $budget (or .isScaled (gt (int .settings.replicas) 0)) }}
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ include "ledgerq.name" (list .root (empty .pool | ternary .component (printf "%s-%s" .component (default "" .pool)))) }}
  labels:
    {{- include "ledgerq.labels" . | nindent 4 }}
spec:
  {{- toYaml $budget | nindent 2 }}
  selector:
    matchLabels:
      {{- include "ledgerq.selector" . | nindent 6 }}
{{- end }}
{{- end -}}

{{/* (dict root component pool? settings) */}}
{{- define "ledgerq.hpa" -}}
{{- $name := include "ledgerq.name" (list .root (empty .pool | ternary .component (printf "%s-%s" .component (default "" .pool)))) -}}
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata:
  name: {{ $name }}
  labels:
    {{- include "ledgerq.labels" . | nindent 4 }}
spec:
  scaleTargetRef:
    apiVersion: apps/v1
    kind: Deployment
    name: {{ $name }}
  minReplicas: {{ .settings.autoscaling.minReplicas }}
  maxReplicas: {{ .settings.autoscaling.maxReplicas }}
  metrics:
    - type: Resource
      resource:
        name: cpu
        target:
          type: Utilization
          averageUtilization: {{ .settings.autoscaling.targetCPUUtilizationPercentage }}
  {{- with .settings.autoscaling.behavior }}
  behavior:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end -}}

{{/* (dict root component service port) */}}
{{- define "ledgerq.service" -}}
apiVersion: v1
kind: Service
metadata:
  name: {{ include "ledgerq.name" (list .root .component) }}
  labels:
    {{- include "ledgerq.labels" . | nindent 4 }}
  {{- with .service.annotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  type: {{ default "ClusterIP" .service.type }}
  {{- with .root.Values.network.ipFamilyPolicy }}
  ipFamilyPolicy: {{ . }}
  {{- end }}
  selector:
    {{- include "ledgerq.selector" . | nindent 4 }}
  ports:
    - name: http
      port: {{ .service.port }}
      targetPort: http
      {{- with .service.nodePort }}
      nodePort: {{ . }}
      {{- end }}
{{- end -}}

{{/* (dict root component own): an Ingress or an HTTPRoute to the component's Service. */}}
{{- define "ledgerq.ingress" -}}
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: {{ include "ledgerq.name" (list .root .component) }}
  labels:
    {{- include "ledgerq.labels" . | nindent 4 }}
  {{- with .own.ingress.annotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  {{- with .own.ingress.className }}
  ingressClassName: {{ . }}
  {{- end }}
  {{- with .own.ingress.tls }}
  tls:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  rules:
    {{- range .own.ingress.hosts }}
    - host: {{ . | quote }}
      http:
        paths:
          - path: {{ $.own.ingress.path }}
            pathType: Prefix
            backend:
              service:
                name: {{ include "ledgerq.name" (list $.root $.component) }}
                port:
                  name: http
    {{- end }}
{{- end -}}

{{- define "ledgerq.httpRoute" -}}
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata:
  name: {{ include "ledgerq.name" (list .root .component) }}
  labels:
    {{- include "ledgerq.labels" . | nindent 4 }}
  {{- with .own.httpRoute.annotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  parentRefs:
    {{- toYaml .own.httpRoute.parentRefs | nindent 4 }}
  {{- with .own.httpRoute.hostnames }}
  hostnames:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  rules:
    - matches:
        - path:
            type: PathPrefix
            value: /
      backendRefs:
        - name: {{ include "ledgerq.name" (list .root .component) }}
          port: {{ .own.service.port }}
{{- end -}}
