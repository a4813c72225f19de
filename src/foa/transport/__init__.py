"""Adapters of the Transport port: `memory.MemoryTransport`, `mqtt.MqttTransport`, `paho.PahoTransport`.

publish ──────────────────────────────► session with the broker
inbox A ◄─┬─ Demultiplexer ◄─ arrivals ─┘        hub.py (in memory) · mqttium · paho-mqtt
inbox B ◄─┘  by topic filter, each once
"""
