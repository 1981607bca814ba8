"""Where a person looks at the running platform."""

from rich.table import Table

from waybill import ports
from waybill.project import Project

_PAGES = {
    "Dashboard": ("dashboard", "/"),
    "API and its documentation": ("gateway", "/docs"),
}


def urls(project: Project) -> Table:
    table = Table.grid(padding=(0, 2))
    for title, url in addresses(project).items():
        table.add_row(title, f"[link={url}]{url}[/link]")
    return table


def addresses(project: Project) -> dict[str, str]:
    app_ports = {app.name: app.port for app in project.apps}
    pages = {
        title: f"http://{ports.HOST}:{app_ports[app]}{path}"
        for title, (app, path) in _PAGES.items()
        if app in app_ports
    }
    return pages | {
        "Mail sink": f"http://{ports.HOST}:{ports.MAIL_HTTP}",
        "RabbitMQ": f"http://{ports.HOST}:{ports.RABBITMQ_MANAGEMENT}",
    }
