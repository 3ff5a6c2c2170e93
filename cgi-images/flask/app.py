"""A Flask application as a CGI program: the standard library's CGIHandler runs any WSGI application."""

from wsgiref.handlers import CGIHandler

from flask import Flask, abort, jsonify, redirect, render_template_string, request, url_for

app = Flask(__name__)

PAGE = """<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<title>Flask by CGI</title>
<style>body { font: 1rem/1.5 system-ui, sans-serif; max-width: 40rem; margin: 2rem auto; padding: 0 1rem }</style>
<h1>Flask by CGI</h1>
{% if message %}<p><b>{{ message }}</b></p>{% endif %}
<ul>
  <li><a href="{{ url_for('greet', name='Ada') }}">A greeting</a></li>
  <li><a href="{{ url_for('echo', colour='green') }}">The query as JSON</a></li>
  <li><a href="{{ url_for('square', number=12) }}">Twelve squared</a></li>
  <li><a href="{{ url_for('home') }}old">A redirect</a></li>
</ul>
<form action="{{ url_for('add') }}" method="post">
  <input name="a" size="6"> + <input name="b" size="6"> <button>Add</button>
</form>
</html>
"""


@app.get("/")
def home():
    return render_template_string(PAGE)


@app.get("/hello/<name>")
def greet(name):
    return render_template_string(PAGE, message=f"Hello, {name}!")


@app.get("/square/<int:number>")
def square(number):
    return render_template_string(PAGE, message=f"{number}² = {number * number}")


@app.post("/add")
def add():
    try:
        total = float(request.form["a"]) + float(request.form["b"])
    except ValueError:
        abort(400, "Both have to be numbers.")
    return render_template_string(PAGE, message=f"The sum is {total:g}.")


@app.route("/echo", methods=["GET", "POST"])
def echo():
    return jsonify(
        method=request.method,
        query=request.args.to_dict(flat=False),
        form=request.form.to_dict(flat=False),
        json=request.get_json(silent=True),
    )


@app.get("/old")
def old():
    return redirect(url_for("home"), 301)


if __name__ == "__main__":
    CGIHandler().run(app)
