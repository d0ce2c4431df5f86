{{- define "stream-ml.config" -}}
{{- .Values.config | default (.Files.Get "stream_ml.yaml") -}}
{{- toYaml .Values.files -}}
{{- end -}}
