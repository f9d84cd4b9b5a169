"""The code of {{cookiecutter.project_name}}: a page, and the tasks of jobs."""
