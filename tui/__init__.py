"""The monitor: app, screens, widgets and messages. The only package that imports textual."""
