"""A stand-in for Label Studio that fails where the real one does."""

from types import SimpleNamespace as Row


class FakeStudio:
    """As much of the SDK's client as publishing uses. `fail(call, landed)` may raise around an import."""

    def __init__(self):
        self.project_rows, self.task_rows, self.storages = [], [], []
        self.imports, self.sent, self.annotated = 0, [], []
        self.fail = lambda number, landed: None
        self.projects = Row(
            list=self._projects, create=self._create, update=self._update, import_tasks=self._import,
            exports=Row(list=lambda id: []),
            get=lambda id: self.project_rows[id - 1],
        )  # fmt: skip
        self.tasks = Row(list=self._tasks, delete=self._delete)
        self.views = Row(list=lambda project: [], create=lambda **_: Row(id=1), delete=lambda id: None)
        self.users = Row(list=lambda: [Row(id=4, email="ann@example.org")])
        self.annotations = Row(create=self._annotate)
        kind = Row(list=lambda project: self.storages, create=self._storage, update=self._update_storage)
        self.import_storage = Row(local=kind, s3=kind)

    def _projects(self, *, title):
        return [p for p in self.project_rows if title in p.title]

    def _create(self, **fields):
        self.project_rows.append(Row(id=len(self.project_rows) + 1, **fields))
        return self.project_rows[-1]

    def _update(self, id, **fields):
        vars(self.project_rows[id - 1]).update(fields)

    def _storage(self, **fields):
        self.storages.append(Row(id=len(self.storages) + 1, **fields))

    def _update_storage(self, id, **fields):
        vars(self.storages[id - 1]).update(fields)

    def _tasks(self, *, project, **_):
        return [task for task in self.task_rows if getattr(task, "project", 1) == project]

    def _delete(self, *, id):
        self.task_rows = [t for t in self.task_rows if t.id != id]

    def _import(self, *, id, request):
        self.imports += 1
        self.sent += request
        self.fail(self.imports, False)
        start = max((t.id for t in self.task_rows), default=0) + 1
        self.task_rows += [
            Row(id=start + n, data=t["data"], total_annotations=0, project=id) for n, t in enumerate(request)
        ]
        self.fail(self.imports, True)

    def _annotate(self, **fields):
        self.annotated.append(fields)

    def image_ids(self):
        return [t.data["image_id"] for t in self.task_rows]
