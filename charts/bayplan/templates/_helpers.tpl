{{/*
Names are fixed: the CRDs, the scheduler's name and the gate exist once in a cluster, so there is
one release. Each helper takes (dict "root" $ "component" "planner"), or the root alone.
*/}}

{{- define "bayplan.selector" -}}
app.kubernetes.io/name: bayplan
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "bayplan.labels" -}}
{{ include "bayplan.selector" . }}
app.kubernetes.io/part-of: bayplan
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
{{- end }}

{{- define "bayplan.metadata" -}}
name: bayplan-{{ .component }}
namespace: {{ .root.Release.Namespace }}
labels:
  {{- include "bayplan.labels" . | nindent 2 }}
{{- end }}

{{- define "bayplan.clusterMetadata" -}}
name: bayplan-{{ .component }}
labels:
  {{- include "bayplan.labels" . | nindent 2 }}
{{- end }}

{{- define "bayplan.image" -}}
image: {{ printf "%s:%s" .image.repository (.image.tag | default .tag) | quote }}
imagePullPolicy: {{ .image.pullPolicy }}
{{- end }}

{{/* What every pod of ours has: where it may run, and no rights it does not need. */}}
{{- define "bayplan.podSpec" -}}
serviceAccountName: bayplan-{{ .component }}
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  seccompProfile:
    type: RuntimeDefault
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .root.Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .root.Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .root.Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end }}

{{- define "bayplan.containerSecurity" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
{{- end }}

{{/* Replicas of one program end up on different nodes where there is room for that. */}}
{{- define "bayplan.spread" -}}
topologySpreadConstraints:
- maxSkew: 1
  topologyKey: kubernetes.io/hostname
  whenUnsatisfiable: ScheduleAnyway
  labelSelector:
    matchLabels:
      {{- include "bayplan.selector" . | nindent 6 }}
{{- end }}

{{- define "bayplan.env" -}}
env:
- name: POD_NAME
  valueFrom:
    fieldRef:
      fieldPath: metadata.name
- name: POD_NAMESPACE
  valueFrom:
    fieldRef:
      fieldPath: metadata.namespace
{{- end }}

{{/* What goes under `extenders:` of a KubeSchedulerConfiguration. */}}
{{- define "bayplan.extenderStanza" -}}
{{- $extender := .Values.scheduler.extender -}}
{{- $scheme := ternary "https" "http" .Values.tls.enabled -}}
- urlPrefix: {{ $extender.urlPrefix | default (printf "%s://bayplan-webhook.%s.svc:8080" $scheme .Release.Namespace) }}
  filterVerb: filter
  # Asked only when the scheduler would make others go: the plan decides who does.
  preemptVerb: preempt
  {{- if .Values.webhook.bind }}
  bindVerb: bind
  {{- end }}
  {{- if .Values.tls.enabled }}
  enableHTTPS: true
  tlsConfig:
    caFile: /etc/bayplan-tls/ca.crt
    certFile: /etc/bayplan-tls/tls.crt
    keyFile: /etc/bayplan-tls/tls.key
  {{- end }}
  nodeCacheCapable: true
  ignorable: true
  httpTimeout: {{ $extender.httpTimeout }}
  managedResources:
  {{- range .Values.gpuResources }}
  - name: {{ . }}
    ignoredByScheduler: false
  {{- end }}
{{- end }}

{{/* The newest API of MutatingAdmissionPolicy that the cluster serves, or nothing. */}}
{{- define "bayplan.admissionApi" -}}
{{- if .Capabilities.APIVersions.Has "admissionregistration.k8s.io/v1/MutatingAdmissionPolicy" -}}
admissionregistration.k8s.io/v1
{{- else if .Capabilities.APIVersions.Has "admissionregistration.k8s.io/v1beta1/MutatingAdmissionPolicy" -}}
admissionregistration.k8s.io/v1beta1
{{- end -}}
{{- end }}

{{- define "bayplan.schedulerConfig" -}}
apiVersion: kubescheduler.config.k8s.io/v1
kind: KubeSchedulerConfiguration
leaderElection:
  leaderElect: true
  resourceName: bayplan-scheduler
  resourceNamespace: {{ .Release.Namespace }}
clientConnection:
  qps: {{ .Values.scheduler.clientConnection.qps }}
  {{- /* A number from a values file is a float to helm: 4e+06, which the scheduler does not read. */}}
  burst: {{ .Values.scheduler.clientConnection.burst | int64 }}
profiles:
- schedulerName: bayplan
extenders:
{{ include "bayplan.extenderStanza" . }}
{{- end }}
