{{- /* What several templates share. Text from values goes through quote, toJson or toYaml, never through a template. */}}

{{- define "m2r.name" -}}
{{ .Values.nameOverride | default .Chart.Name }}
{{- end }}

{{- define "m2r.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{ .Values.fullnameOverride }}
{{- else if contains (include "m2r.name" .) .Release.Name -}}
{{ .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else -}}
{{ printf "%s-%s" .Release.Name (include "m2r.name" .) | trunc 40 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- /* Prefix of cluster-wide objects: releases that serve some namespaces may share a name. */}}
{{- define "m2r.clusterName" -}}
{{ include "m2r.fullname" . }}{{ if .Values.watchNamespaces }}-{{ .Release.Namespace }}{{ end }}
{{- end }}

{{- define "m2r.operator" -}}
{{ include "m2r.fullname" . }}-operator
{{- end }}

{{- define "m2r.s3" -}}
{{ include "m2r.fullname" . }}-s3
{{- end }}

{{- define "m2r.labels" -}}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version | replace "+" "_" }}
app.kubernetes.io/name: {{ include "m2r.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "m2r.operatorLabels" -}}
app.kubernetes.io/name: {{ include "m2r.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: operator
{{- end }}

{{- define "m2r.s3Labels" -}}
app.kubernetes.io/name: {{ include "m2r.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: s3
{{- end }}

{{- /* Pods of runs have the label m2r.dev/kind, whoever made them. */}}
{{- define "m2r.trainerSelector" -}}
matchExpressions:
  - {key: m2r.dev/kind, operator: Exists}
{{- end }}

{{- define "m2r.serviceAccount" -}}
{{- if .Values.serviceAccount.name -}}
{{ .Values.serviceAccount.name }}
{{- else if .Values.serviceAccount.create -}}
{{ include "m2r.operator" . }}
{{- else -}}
default
{{- end }}
{{- end }}

{{- /* An image reference from (list ROOT IMAGE [REGISTRY]); the registry is the last resort. */}}
{{- define "m2r.image" -}}
{{- $root := index . 0 -}}
{{- $image := index . 1 -}}
{{- $registry := $image.registry | default $root.Values.global.imageRegistry -}}
{{- if and (not $registry) (gt (len .) 2) }}{{ $registry = index . 2 }}{{ end -}}
{{- if $registry }}{{ $registry }}/{{ end }}{{ $image.repository }}
{{- if $image.digest }}@{{ $image.digest }}{{ else }}:{{ $image.tag | default $root.Chart.AppVersion }}{{ end }}
{{- end }}

{{- /* The security context of every container of the release: the restricted Pod Security Standard, and more. */}}
{{- define "m2r.containerSecurity" -}}
allowPrivilegeEscalation: false
capabilities:
  drop: [ALL]
readOnlyRootFilesystem: true
{{- end }}

{{- /* No user id: that of the image (65532), or the one that the platform gives. */}}
{{- define "m2r.podSecurity" -}}
runAsNonRoot: true
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "m2r.pullSecrets" -}}
{{- with .Values.global.imagePullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . | quote }}
  {{- end }}
{{- end }}
{{- end }}

{{- /* The store of runs that name none, as {uri, endpoint, region, secretName} in JSON. */}}
{{- define "m2r.storage" -}}
{{- if not .Values.s3.enabled -}}
{{ .Values.storage | toJson }}
{{- else if .Values.storage.uri -}}
{{ fail "storage.uri and s3.enabled: give one of them, the default store is either yours or the chart's" }}
{{- else -}}
{{- $endpoint := printf "http://%s.%s.svc:7070" (include "m2r.s3" .) .Release.Namespace -}}
{{- $secret := .Values.s3.existingSecret | default (include "m2r.s3" .) -}}
{{ dict "uri" (printf "s3://%s" .Values.s3.bucket) "endpoint" $endpoint "region" "us-east-1" "secretName" $secret | toJson }}
{{- end }}
{{- end }}
