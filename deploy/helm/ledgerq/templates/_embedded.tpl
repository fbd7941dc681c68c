{{/*
One store of the embedded pair: a Service and a StatefulSet of one pod. Its volume goes with the release: a password that
is made anew by the next install would not fit data that stayed.
*/}}
{{- define "ledgerq.embedded" -}}
{{- /* Ten characters shorter than others: its pods carry its name and a hash in a label. */ -}}
{{- $name := include "ledgerq.storeName" (list .root .component) -}}
apiVersion: v1
kind: Service
metadata:
  name: {{ $name }}
  labels:
    {{- include "ledgerq.labels" . | nindent 4 }}
spec:
  selector:
    {{- include "ledgerq.selector" . | nindent 4 }}
  ports:
    - name: {{ .component }}
      port: {{ .port }}
      targetPort: {{ .component }}
---
apiVersion: apps/v1
kind: StatefulSet
metadata:
  name: {{ $name }}
  labels:
    {{- include "ledgerq.labels" . | nindent 4 }}
spec:
  serviceName: {{ $name }}
  replicas: 1
  persistentVolumeClaimRetentionPolicy:
    whenDeleted: Delete
    whenScaled: Retain
  selector:
    matchLabels:
      {{- include "ledgerq.selector" . | nindent 6 }}
  template:
    metadata:
      labels:
        {{- include "ledgerq.labels" . | nindent 8 }}
    spec:
      serviceAccountName: {{ include "ledgerq.serviceAccountName" .root }}
      automountServiceAccountToken: false
      enableServiceLinks: false
      securityContext:
        runAsNonRoot: true
        runAsUser: {{ .own.runAsUser }}
        runAsGroup: {{ .own.runAsUser }}
        fsGroup: {{ .own.runAsUser }}
        seccompProfile:
          type: RuntimeDefault
      containers:
        - name: {{ .component }}
          image: {{ .own.image }}:{{ .own.tag }}{{ with .own.digest }}@{{ . }}{{ end }}
          imagePullPolicy: {{ .root.Values.image.pullPolicy }}
          args: {{ .args | toJson }}
          ports:
            - name: {{ .component }}
              containerPort: {{ .port }}
          env:
            {{- .env | nindent 12 }}
          startupProbe:
            exec:
              command: {{ .ask | toJson }}
            periodSeconds: 2
            timeoutSeconds: 5
            failureThreshold: 60
          readinessProbe:
            exec:
              command: {{ .ask | toJson }}
            periodSeconds: 5
            timeoutSeconds: 5
          livenessProbe:
            tcpSocket:
              port: {{ .component }}
            periodSeconds: 20
            failureThreshold: 6
          {{- with .own.resources }}
          resources:
            {{- toYaml . | nindent 12 }}
          {{- end }}
          securityContext:
            allowPrivilegeEscalation: false
            readOnlyRootFilesystem: true
            capabilities:
              drop: [ALL]
          volumeMounts:
            - name: data
              mountPath: {{ .mount }}
            {{- range $index, $folder := .scratch }}
            - name: scratch
              mountPath: {{ $folder }}
              subPath: {{ base $folder }}
            {{- end }}
      volumes:
        - name: scratch
          emptyDir: {}
  volumeClaimTemplates:
    - metadata:
        name: data
      spec:
        accessModes: [ReadWriteOnce]
        {{- with .own.storageClassName }}
        storageClassName: {{ . }}
        {{- end }}
        resources:
          requests:
            storage: {{ .own.storage }}
{{- if .root.Values.networkPolicy.enabled }}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: {{ $name }}
  labels:
    {{- include "ledgerq.labels" . | nindent 4 }}
spec:
  podSelector:
    matchLabels:
      {{- include "ledgerq.selector" . | nindent 6 }}
  policyTypes: [Ingress, Egress]
  ingress:
    - ports:
        - port: {{ .component }}
      from:
        - podSelector:
            matchLabels:
              app.kubernetes.io/instance: {{ .root.Release.Name }}
              app.kubernetes.io/part-of: ledgerq
  egress: []
{{- end }}
{{- end -}}
