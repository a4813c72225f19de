"""Grids for Flower apps: the same ServerApp, Strategy and ClientApp run in one process or over MQTT. Needs the extra `fl`.

InProcessGrid   every client in this process
MqttGrid        sites anywhere, over any `foa.ports.Transport`; `FlowerNode` is their end
AgenticGrid     around either: selection, guardians' answers, screening, robust rules
"""
