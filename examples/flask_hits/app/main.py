from apig_wsgi import make_lambda_handler
from hits import app

handler = make_lambda_handler(app)
