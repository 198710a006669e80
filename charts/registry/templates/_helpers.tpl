{{/* The module's own image below the registry's base. */}}
{{- define "registry.image" -}}
{{- .Values.image | default (printf "registry:%s" .Chart.AppVersion) -}}
{{- end -}}

{{/* The same with the base: as the controller writes it into its own templates. */}}
{{- define "registry.reference" -}}
{{- $image := include "registry.image" . -}}
{{- $repo := .Values.registry.imagesRepo -}}
{{- if or (hasPrefix ":" $image) (hasPrefix "@" $image) -}}
{{- print $repo $image -}}
{{- else -}}
{{- printf "%s/%s" $repo $image -}}
{{- end -}}
{{- end -}}

{{- define "registry.labels" -}}
heritage: deckhouse
module: registry
{{- end -}}
