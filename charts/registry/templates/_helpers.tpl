{{/* The module's own image below the registry's base. */}}
{{- define "registry.image" -}}
{{- .Values.image | default (printf "registry:%s" .Chart.AppVersion) -}}
{{- end -}}

{{/* The image below a base, as the controller writes it into its own templates. */}}
{{- define "registry.below" -}}
{{- if or (hasPrefix ":" .image) (hasPrefix "@" .image) -}}
{{- print .base .image -}}
{{- else -}}
{{- printf "%s/%s" .base .image -}}
{{- end -}}
{{- end -}}

{{/*
The registry that the module's own image has now. The registry of the
installation may be gone: once there is a state, the controller keeps its
Deployment on the present registry, and an upgrade starts from there.
*/}}
{{- define "registry.base" -}}
{{- $base := .Values.registry.imagesRepo -}}
{{- if lookup "v1" "Secret" "d8-system" "registry-state" -}}
{{- $live := lookup "apps/v1" "Deployment" "d8-system" "registry-controller" -}}
{{- range dig "spec" "template" "spec" "containers" list ($live | default dict) -}}
{{- $container := . -}}
{{- range .args | default list -}}
{{- $image := trimPrefix "--image=" . -}}
{{- if and (hasPrefix "--image=" .) (hasSuffix $image $container.image) -}}
{{- $base = $container.image | trimSuffix $image | trimSuffix "/" -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $base -}}
{{- end -}}

{{- define "registry.reference" -}}
{{- include "registry.below" (dict "base" (include "registry.base" .) "image" (include "registry.image" .)) -}}
{{- end -}}

{{/* What the restricted pod security standard asks of every pod. */}}
{{- define "registry.podSecurity" -}}
runAsNonRoot: true
runAsUser: 64535
runAsGroup: 64535
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "registry.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{/* The program stays below the limit of its container. */}}
{{- define "registry.memoryLimit" -}}
- name: MEMORY_LIMIT
  valueFrom:
    resourceFieldRef:
      resource: limits.memory
{{- end -}}

{{/* Where the controller's token may be: see controller.placement. */}}
{{- define "registry.nodeAffinity" -}}
{{- $label := "node-role.kubernetes.io/control-plane" -}}
{{- $required := eq .Values.controller.placement "control-plane" -}}
{{- if eq .Values.controller.placement "auto" -}}
{{- range (lookup "v1" "Node" "" "").items -}}
{{- if hasKey (.metadata.labels | default dict) $label -}}{{- $required = true -}}{{- end -}}
{{- end -}}
{{- end -}}
nodeAffinity:
{{- if $required }}
  requiredDuringSchedulingIgnoredDuringExecution:
    nodeSelectorTerms:
      - matchExpressions:
          - key: {{ $label }}
            operator: Exists
{{- else }}
  preferredDuringSchedulingIgnoredDuringExecution:
    - weight: 100
      preference:
        matchExpressions:
          - key: {{ $label }}
            operator: Exists
{{- end -}}
{{- end -}}

{{- define "registry.labels" -}}
heritage: deckhouse
module: registry
{{- end -}}

{{/* The file that the controller reads; empty if there is nothing to say. */}}
{{- define "registry.credentialProviders" -}}
{{- with .Values.credentialProviders.providers -}}
{{- toYaml (dict "apiVersion" "kubelet.config.k8s.io/v1" "kind" "CredentialProviderConfig" "providers" .) -}}
{{- end -}}
{{- end -}}
